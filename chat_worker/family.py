"""Which files hold the same model in another quantization, by their metadata or their names."""

import re

import msgspec

from worker_runtime.model_files.gguf import GgufHeader

# The endings of file names that state the quantization: -Q4_K_M, .IQ2_XXS, -UD-Q4_K_XL, …
_QUANTIZATION = re.compile(
    r"([-._](ud|i1|imat))?[-._](i?q\d\w*|tq\d_\d|mxfp4\w*|b?f(p)?(16|32)|gguf)$", re.IGNORECASE
)
_SEPARATORS = re.compile(r"[-_. ]+")
_NAMES = ("general.basename", "general.size_label", "general.finetune")


class Family(msgspec.Struct, frozen=True):
    # Of a GGUF file; empty for other files, whose libraries use other names.
    architecture: str = ""
    # Base name, size and fine-tune from the file's metadata; empty if they are missing.
    declared: tuple[str, ...] = ()
    # The file's name without the quantization.
    stem: str = ""

    def __contains__(self, other: "Family") -> bool:
        if self.architecture and other.architecture and self.architecture != other.architecture:
            return False
        if self.declared and other.declared:
            return self.declared == other.declared
        return bool(self.stem) and self.stem == other.stem


def family_of_gguf(model_id: str, header: GgufHeader) -> Family:
    declared = tuple(str(header.metadata.get(key, "")).casefold() for key in _NAMES)
    # A base name without a size may belong to a whole series of models.
    return Family(header.architecture, declared if all(declared[:2]) else (), _stem(model_id))


def family_of_folder(name: str) -> Family:
    return Family(stem=_stem(name))


def _stem(name: str) -> str:
    while (shorter := _QUANTIZATION.sub("", name)) != name:
        name = shorter
    return _SEPARATORS.sub("-", name).casefold()
