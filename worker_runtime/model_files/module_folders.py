"""Reads which modules a sentence-transformers model has, and in which folders they are."""

from pathlib import Path

import msgspec

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.odd_paths import printable
from worker_runtime.model_files.small_json import read_json

MAX_MODULES = 64
# Why a model is refused, by the last part of a module's type or of the model's.
NOT_RUN = {
    "SparseEncoder": "it is a sparse encoder, and vectors here are dense",
    "MultiVectorEncoder": "it makes a vector of each token (ColBERT), which is not done here",
    "BoW": "it counts words (BoW), which is not done here",
    "WordEmbeddings": "it has embeddings of words (WordEmbeddings), which are not run here",
}


class Modules(msgspec.Struct, frozen=True):
    """The modules of a model.

    Args:
        types: the types of the modules, in order.
        transformer: the folder of the first module, with its config and weights.
        others: the folders of all other modules.
    """

    types: tuple[str, ...]
    transformer: Path
    others: tuple[Path, ...] = ()


def read_modules(folder: Path) -> Modules:
    """Read and check the list of modules in `folder`.

    Raises:
        InvalidModelFile: the model cannot or must not be loaded, with the reason.
        OSError: the list cannot be read.
    """
    modules = read_json(folder / "modules.json")
    if not isinstance(modules, list) or not modules:
        raise InvalidModelFile("modules.json lists no modules")
    if len(modules) > MAX_MODULES:
        raise InvalidModelFile(f"modules.json lists {len(modules)} modules")
    types = tuple(_text(module, "type") for module in modules)
    for module in types:
        if not module.startswith("sentence_transformers."):
            raise InvalidModelFile(f"it needs the module {module[:64]!r}, which is foreign code")
        refuse_kind("SparseEncoder" if ".sparse_encoder." in module else module)
    first, *others = (_within(folder, _text(module, "path")) for module in modules)
    return Modules(types, first, tuple(path for path in others if path != folder))


def refuse_kind(kind: str) -> None:
    """Refuse a type of model or module that is not run here.

    Raises:
        InvalidModelFile: it is such a type.
    """
    if reason := NOT_RUN.get(kind.rpartition(".")[2]):
        raise InvalidModelFile(reason)


def _within(folder: Path, name: str) -> Path:
    if name in ("", "."):
        return folder
    if Path(name).name != name or name == ".." or "\\" in name or "\0" in name:
        raise InvalidModelFile(
            f"modules.json names {printable(name[:64])}, which is no folder in it"
        )
    return folder / name


def _text(module: object, key: str) -> str:
    found = module.get(key) if isinstance(module, dict) else None
    return found if isinstance(found, str) else ""
