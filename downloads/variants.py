"""Groups the files of a repository into variants, each a whole model: GGUF files or a folder."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import msgspec

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from downloads.listing import Listing, RemoteFile
from downloads.source import Source
from worker_runtime.model_files.gguf_files import gguf_id, shard_paths

FOLDER = "safetensors"
MAX_VARIANTS = 64
MAX_FOLDER_FILES = 512
# A folder of safetensors needs these beside its weights. Nothing else is taken: no pickled weights,
# no programs.
_TAKEN = (".safetensors", ".json", ".jinja", ".model")
_TAKEN_TEXTS = frozenset({"vocab.txt", "merges.txt"})
# Copies of the weights in other libraries' formats.
_COPIES = frozenset({"onnx", "openvino", "coreml", "original", "flax", "tf", "gguf", "metal"})
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_QUANTIZATION = re.compile(
    r"(?:^|[-._])((?:UD-)?I?Q\d\w*|TQ\d_\d|MXFP4\w*|BF16|F16|F32|FP16|FP32)$", re.IGNORECASE
)
_PROJECTOR, _MATRIX = "mmproj", "imatrix"


class Variant(msgspec.Struct, frozen=True):
    """One model to choose.

    Args:
        name: the quantization, or what tells it from the others.
        files: the first is the model's first.
    """

    name: str
    files: tuple[RemoteFile, ...]

    @property
    def is_folder(self) -> bool:
        return self.name == FOLDER

    @property
    def family(self) -> str:
        """The name of its first file without the quantization: the same for the same model."""
        return _QUANTIZATION.sub("", gguf_id(Path(self.files[0].name))).casefold()

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


class Variants(msgspec.Struct, frozen=True):
    """
    Args:
        found: the smallest first.
        left_out: sentences about files that are not taken.
    """

    found: tuple[Variant, ...]
    left_out: tuple[str, ...] = ()


def variants_of(listing: Listing, source: Source) -> Variants:
    """Return what there is to choose.

    Raises:
        InvalidRequest: the repository has nothing that runs here, or lacks the file named.
    """
    ggufs = [file for file in listing.files if file.path.lower().endswith(".gguf")]
    if source.file:
        ggufs = _named(ggufs, source)
    left_out: list[str] = []
    found = list(_gguf_variants(ggufs, left_out)) if ggufs else []
    if not found and not source.file:
        found = list(_folder_variant(listing))
    if not found:
        raise _nothing(listing)
    found.sort(key=lambda variant: variant.size_bytes)
    return Variants(tuple(found[:MAX_VARIANTS]), tuple(left_out))


def choose(variants: Iterable[Variant], wanted: str) -> Variant:
    """Return the variant that `wanted` names, in any case.

    Raises:
        InvalidRequest: there is none; the error lists those that there are.
    """
    known = list(variants)
    for spelling in (wanted, f"UD-{wanted}"):
        for variant in known:
            names = {variant.name, Path(variant.files[0].name).stem}
            if spelling.casefold() in {name.casefold() for name in names}:
                return variant
    listed = ", ".join(variant.name for variant in known[:20])
    raise InvalidRequest(ErrorText("pull_no_variant", wanted=wanted, known=listed), param="model")


def _named(ggufs: list[RemoteFile], source: Source) -> list[RemoteFile]:
    named = [file for file in ggufs if file.path == source.file]
    if not named:
        raise InvalidRequest(
            ErrorText("pull_no_file", name=source.file, repository=source.repository),
            param="model",
        )
    shards = {str(path) for path in shard_paths(Path(named[0].path))}
    return [file for file in ggufs if str(Path(file.path)) in shards]


def _gguf_variants(files: Iterable[RemoteFile], left_out: list[str]) -> Iterator[Variant]:
    models: dict[str, list[RemoteFile]] = {}
    for file in sorted(files, key=lambda one: one.path):
        name = file.name.casefold()
        if _PROJECTOR in name:
            left_out.append(f"{file.path}: a projector for images, which no model here uses")
        elif _MATRIX not in name:
            stem = str(PurePosixPath(file.path).parent / gguf_id(Path(file.name)))
            models.setdefault(stem, []).append(file)
    names: set[str] = set()
    for stem, shards in models.items():
        expected = len(shard_paths(Path(shards[0].name)))
        if len(shards) != expected:
            left_out.append(f"{shards[0].path}: {expected - len(shards)} of its parts are missing")
            continue
        match = _QUANTIZATION.search(PurePosixPath(stem).name)
        name = match[1].upper() if match else PurePosixPath(stem).name
        if name in names:
            name = PurePosixPath(stem).name
        names.add(name)
        yield Variant(name, tuple(shards))


def _folder_variant(listing: Listing) -> Iterator[Variant]:
    files = [file for file in listing.files if _belongs(file.path)]
    if any(file.name.endswith(".safetensors") for file in files) and len(files) < MAX_FOLDER_FILES:
        yield Variant(FOLDER, tuple(files))


def _belongs(path: str) -> bool:
    *folders, name = path.split("/")
    if set(folders) & _COPIES or any(folder.startswith(".") for folder in folders):
        return False
    return name.endswith(_TAKEN) or name in _TAKEN_TEXTS


def _nothing(listing: Listing) -> InvalidRequest:
    text = ErrorText("pull_nothing_here", name=listing.title)
    if any(file.path.endswith(_PICKLED) for file in listing.files):
        text = ErrorText("pull_only_pickled", name=listing.title)
    return InvalidRequest(text, param="model", suggestions=(ErrorText("pull_other_repository"),))
