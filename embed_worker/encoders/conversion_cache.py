"""Models converted for OpenVINO, kept in a folder of the user's: found there, or converted once.

A conversion needs torch and hundreds of megabytes, so it runs in a process of its own, which is
gone when the encoder starts. What is kept is named by a hash of everything that it depends on.
"""

import hashlib
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from common.packages import version_of

log = logging.getLogger(__name__)

# Raise it when the conversion changes: everything is converted anew.
VERSION = 3
RECORD = "encoder.json"
GRAPH = "model.xml"
WEIGHTS = "model.bin"
TOKENIZER = "tokenizer.json"
LIBRARIES = ("openvino", "torch", "transformers", "sentence-transformers")
SOURCES = ("*.safetensors", "*.json", "[0-9]*_*/*.safetensors", "[0-9]*_*/*.json")
# The graph and its weights exist twice while they are written.
SPARE_DISK = 2.5


class NotConvertible(Exception):
    """The model stays on torch; the text says why."""


class Record(msgspec.Struct, kw_only=True):
    """What is known of a converted model beside its graph, weights and tokenizer."""

    source: str  # its folder, for clearing away what an older version of it left
    refusal: str = ""  # why it stays on torch; all else is then empty
    dimension: int = 0
    max_tokens: int = 0
    n_embedded: int = 0
    pad_id: int = 0
    pools_prompt: bool = True
    # Texts lie end to end in it, and are told their positions, from this one on.
    unpadded: bool = False
    first_position: int = 0
    prompts: dict[str, str] = {}
    default_prompt_name: str = ""
    # By precision of the arithmetic: the smallest cosine to vectors of torch in float32.
    cosines: dict[str, float] = {}
    # By precision and threads set: padded tokens that are computed together fastest.
    batch_tokens: dict[str, int] = {}


def converted(
    model: Path, cache: Path, on_progress: Callable[[float, str], None]
) -> tuple[Path, Record]:
    """The folder with the converted form of `model`, and what is known of it.

    Raises:
        NotConvertible: the model, or this machine, cannot have one.
    """
    folder = cache / f"{model.name}-{_key(model)}"
    record = read_record(folder)
    if record is None:
        _check_disk(model, cache)
        _convert(model, folder, on_progress)
        record = read_record(folder)
    if record is None:
        raise NotConvertible("its conversion left nothing behind")
    if record.refusal:
        raise NotConvertible(record.refusal)
    return folder, record


def read_record(folder: Path) -> Record | None:
    """None: there is no complete conversion in `folder`."""
    try:
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError):
        return None


def write_record(folder: Path, record: Record) -> None:
    """Replace the record in one step."""
    fresh = folder / f"{RECORD}.new"
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    fresh.replace(folder / RECORD)


def _key(model: Path) -> str:
    digest = hashlib.sha256(f"{VERSION}".encode())
    for library in LIBRARIES:
        digest.update(f"\0{library} {version_of(library)}".encode())
    for path in _sources(model):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        digest.update(f"\0{path.relative_to(model).as_posix()}\0".encode() + content)
    return digest.hexdigest()[:16]


def _sources(model: Path) -> Iterator[Path]:
    found = {path for pattern in SOURCES for path in model.glob(pattern)}
    return (path for path in sorted(found) if path.is_file())


def _check_disk(model: Path, cache: Path) -> None:
    need = SPARE_DISK * sum(path.stat().st_size for path in _sources(model))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
    except OSError as error:
        raise NotConvertible(f"the folder {cache} cannot be written to") from error
    if free < need:
        raise NotConvertible(f"the folder {cache} has {free >> 20} MiB left, less than it needs")


def _convert(model: Path, folder: Path, on_progress: Callable[[float, str], None]) -> None:
    log.info("converting %s for OpenVINO, once", model.name)
    process = subprocess.Popen(
        [sys.executable, "-m", "embed_worker.encoders.convert", str(model), str(folder)],
        # Held open: at its end the converter ends, so that it does not outlive this process.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            fraction, _, stage = line.decode("utf-8", "replace").strip().partition(" ")
            on_progress(float(fraction), stage)
        # Before its stdin is closed.
        process.wait()
    if process.returncode:
        raise NotConvertible(f"its conversion ended with code {process.returncode}, see the log")
