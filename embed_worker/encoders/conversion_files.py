"""The files of a model that was converted for OpenVINO, and what its record states about it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from common.packages import version_of
from worker_runtime.model_files.foreign_files import reason_of

# Raise this number when the conversion changes, so that every model is converted again.
VERSION = 3
RECORD = "encoder.json"
GRAPH = "model.xml"
WEIGHTS = "model.bin"
TOKENIZER = "tokenizer.json"
LIBRARIES = ("openvino", "torch", "transformers", "sentence-transformers")
SOURCES = ("*.safetensors", "*.json", "[0-9]*_*/*.safetensors", "[0-9]*_*/*.json")


class Record(msgspec.Struct, kw_only=True):
    """What is stored about a converted model besides its graph, weights and tokenizer."""

    source: str  # the model's folder, by which files of its older versions are found and removed
    state: str = ""  # the state of the files there, see `source_state`
    checks: dict[str, str] = {}  # checks of the written files, by name, see `checks_of`
    refusal: str = ""  # why the model stays on torch; the fields below are then unset
    dimension: int = 0
    max_tokens: int = 0
    n_embedded: int = 0
    pad_id: int = 0
    pools_prompt: bool = True
    # Whether texts follow each other without padding, with positions from `first_position` on.
    unpadded: bool = False
    first_position: int = 0
    prompts: dict[str, str] = {}
    default_prompt_name: str = ""
    # The smallest cosine to torch's vectors in float32, by the precision of the computation.
    cosines: dict[str, float] = {}
    # The padded tokens of the fastest batch, by precision and configured threads.
    batch_tokens: dict[str, int] = {}


def checks_of(folder: Path) -> dict[str, str]:
    """Return checks of a converted model's files, which later show whether one is damaged."""
    return {name: _check(folder / name) for name in (GRAPH, WEIGHTS, TOKENIZER)}


def source_state(model: Path) -> str:
    """Return a hash that changes with the files of `model` or a library; no file is read."""
    digest = hashlib.sha256(versions().encode())
    for path in sources(model):
        stat = path.stat()
        name = path.relative_to(model).as_posix()
        digest.update(f"\0{name}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def digests(model: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that the vectors of `model` depend on, by its path."""
    found = {}
    for path in sources(model):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        found[path.relative_to(model).as_posix()] = digest.hexdigest()
    return found


def read_record(folder: Path) -> Record | None:
    """Return the record in `folder`; None if there is no complete conversion."""
    try:
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError):
        return None


def write_record(folder: Path, record: Record) -> None:
    """Replace the record in one atomic step."""
    fresh = folder / f"{RECORD}.new"
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    fresh.replace(folder / RECORD)


def versions() -> str:
    """Return everything besides the model's files that a conversion depends on."""
    return "\0".join((f"{VERSION}", *(f"{name} {version_of(name)}" for name in LIBRARIES)))


def damage_of(folder: Path, record: Record) -> str:
    """Return what is wrong with a converted model's files; empty if no damage is found."""
    for name, expected in record.checks.items():
        try:
            if _check(folder / name) != expected:
                return f"{name} is not as it was written"
        except OSError as error:
            return f"{name}: {reason_of(error)}"
    return ""


def _check(file: Path) -> str:
    """Return a hash of a file, but only the size of weights, as reading them takes seconds."""
    if file.name == WEIGHTS:
        return f"{file.stat().st_size} bytes"
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def sources(model: Path) -> Iterator[Path]:
    """Yield the files that the vectors of `model` depend on, sorted."""
    found = {path for pattern in SOURCES for path in model.glob(pattern)}
    return (path for path in sorted(found) if path.is_file())
