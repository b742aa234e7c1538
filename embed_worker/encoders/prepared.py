"""Conversions that this package brings along, so that well-known models start without torch.

Only the graph of such a model is stored here, not its weights: these are copied out of the model's
own safetensors file. `python -m embed_worker.encoders.prepare` writes a new one.
"""

import hashlib
import shutil
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import msgspec

from embed_worker.encoders.conversion_files import (
    GRAPH,
    RECORD,
    TOKENIZER,
    WEIGHTS,
    Record,
    sources,
)
from worker_runtime.model_files.safetensors import check_safetensors

FOLDER = Path(__file__).parent.parent / "prepared"
MODEL_WEIGHTS = "model.safetensors"
PARTS = "weights.json"


class Part(msgspec.Struct, omit_defaults=True):
    """A piece of the weights of a graph, in their order: a tensor of the model, or bytes in hex."""

    tensor: str = ""
    literal: str = ""


class Origin(msgspec.Struct):
    """Which model a prepared graph belongs to, and what its weights consist of."""

    # The sizes and the SHA-256 of the model's files, by their path in its folder.
    sizes: dict[str, int]
    digests: dict[str, str]
    parts: list[Part]


def writer_for(model: Path) -> Callable[[Path], Record] | None:
    """What writes the converted form of `model` to a folder, if that comes with this package."""
    prepared = prepared_for(model)
    return None if prepared is None else partial(assemble, prepared, model)


def prepared_for(model: Path) -> Path | None:
    """The folder of the graph that was prepared for exactly these files; None if there is none."""
    files = {path.relative_to(model).as_posix(): path.stat() for path in sources(model)}
    state = ((name, stat.st_size, stat.st_mtime_ns) for name, stat in files.items())
    return _prepared_for(model, tuple(state))


@lru_cache(maxsize=64)
def _prepared_for(model: Path, state: tuple[tuple[str, int, int], ...]) -> Path | None:
    sizes = {name: size for name, size, _ in state}
    for folder in sorted(FOLDER.iterdir()):
        origin = _origin(folder)
        # Hashes take longer, so they are computed only of files that have the right size.
        if origin.sizes == sizes and origin.digests == digests(model):
            return folder
    return None


def digests(model: Path) -> dict[str, str]:
    """The SHA-256 of each file that the vectors of `model` depend on, by its path."""
    found = {}
    for path in sources(model):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        found[path.relative_to(model).as_posix()] = digest.hexdigest()
    return found


def assemble(prepared: Path, model: Path, folder: Path) -> Record:
    """Write to `folder` what a conversion of `model` would write, and return its record.

    Raises:
        OSError: a file cannot be read or written.
    """
    shutil.copyfile(prepared / GRAPH, folder / GRAPH)
    # Texts are cut and padded by us.
    tokenizer = msgspec.json.decode((model / TOKENIZER).read_bytes())
    tokenizer |= {"padding": None, "truncation": None}
    (folder / TOKENIZER).write_bytes(msgspec.json.encode(tokenizer))
    source = model / MODEL_WEIGHTS
    header = check_safetensors(source)
    with source.open("rb") as weights, (folder / WEIGHTS).open("wb") as target:
        for part in _origin(prepared).parts:
            if not part.tensor:
                target.write(bytes.fromhex(part.literal))
                continue
            first, end = header.tensors[part.tensor].data_offsets
            weights.seek(header.data_start + first)
            target.write(weights.read(end - first))
    return msgspec.json.decode((prepared / RECORD).read_bytes(), type=Record)


def _origin(prepared: Path) -> Origin:
    return msgspec.json.decode((prepared / PARTS).read_bytes(), type=Origin)
