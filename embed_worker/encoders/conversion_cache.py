"""Models converted for OpenVINO, cached in a folder of the user; each is converted once.

A conversion needs torch and hundreds of megabytes, so it runs in a process of its own, which is
gone when the encoder starts. What is kept is named by a hash of everything that it depends on;
where reading all files would take too long, it is found by their folder and their times.
"""

import contextlib
import hashlib
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from common.packages import version_of
from worker_runtime.model_files.foreign_files import reason_of
from worker_runtime.model_files.odd_paths import path_text

log = logging.getLogger(__name__)

# Raise it when the conversion changes: everything is converted anew.
VERSION = 3
RECORD = "encoder.json"
GRAPH = "model.xml"
WEIGHTS = "model.bin"
TOKENIZER = "tokenizer.json"
LIBRARIES = ("openvino", "torch", "transformers", "sentence-transformers")
SOURCES = ("*.safetensors", "*.json", "[0-9]*_*/*.safetensors", "[0-9]*_*/*.json")
# What an uncaught exception ends a converter with; after other codes nobody knows what it did.
FAILED = 1
# The graph and its weights exist twice while they are written.
SPARE_DISK = 2.5


class NotConvertible(Exception):
    """The model must run on torch; the text states the reason."""


class Record(msgspec.Struct, kw_only=True):
    """What is stored about a converted model besides its graph, weights and tokenizer."""

    source: str  # its folder, for clearing away what an older version of it left
    state: str = ""  # of the files there, as `source_state` tells it
    checks: dict[str, str] = {}  # of what was written, by file name
    refusal: str = ""  # why it stays on torch; all else is then empty
    dimension: int = 0
    max_tokens: int = 0
    n_embedded: int = 0
    pad_id: int = 0
    pools_prompt: bool = True
    # Its texts are unpadded, one after the other, with positions that start at `first_position`.
    unpadded: bool = False
    first_position: int = 0
    prompts: dict[str, str] = {}
    default_prompt_name: str = ""
    # The smallest cosine to vectors of torch in float32, by the precision of the computation.
    cosines: dict[str, float] = {}
    # The padded tokens of the fastest batch, by precision and configured threads.
    batch_tokens: dict[str, int] = {}


def converted(
    model: Path, cache: Path, on_progress: Callable[[float, str], None]
) -> tuple[Path, Record]:
    """The folder with the converted form of `model`, and its record.

    Raises:
        NotConvertible: the model, or this machine, does not allow a conversion.
    """
    folder = cache / f"{model.name}-{_key(model)}"
    record = read_record(folder)
    if record is not None and (damage := _damage(folder, record)):
        log.warning("the converted form of %s in %s is damaged: %s", model.name, folder, damage)
        record = None
    if record is None:
        _check_disk(model, cache)
        _convert(model, folder, on_progress)
        record = read_record(folder)
    if record is None:
        raise NotConvertible("its conversion left nothing behind")
    if record.refusal:
        raise NotConvertible(record.refusal)
    if (record.source, record.state) != (found := _found_at(model)):
        record.source, record.state = found
        # Then its conversion is booked again next time, where it cannot be written.
        with contextlib.suppress(OSError):
            write_record(folder, record)
    return folder, record


def known(model: Path, cache: Path) -> Record | None:
    """What is known of the conversion of `model`, from the times of its files; None: it would be
    converted when it is loaded."""
    found = _found_at(model)
    for path in cache.glob(f"*/{RECORD}"):
        record = read_record(path.parent)
        if record is not None and (record.source, record.state) == found:
            return None if _damage(path.parent, record) else record
    return None


def refused(model: Path, reason: str) -> Record:
    """For remembering that `model` stays on torch."""
    source, state = _found_at(model)
    return Record(source=source, state=state, refusal=reason)


def checks_of(folder: Path) -> dict[str, str]:
    """By which damage to a converted model's files is seen later."""
    return {name: _check(folder / name) for name in (GRAPH, WEIGHTS, TOKENIZER)}


def source_state(model: Path) -> str:
    """Changes when a file of `model` or a library does; files are not read."""
    digest = hashlib.sha256(_versions().encode())
    for path in _sources(model):
        stat = path.stat()
        name = path.relative_to(model).as_posix()
        digest.update(f"\0{name}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def read_record(folder: Path) -> Record | None:
    """The record in `folder`; None if there is no complete conversion."""
    try:
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError):
        return None


def write_record(folder: Path, record: Record) -> None:
    """Replace the record in one atomic step."""
    fresh = folder / f"{RECORD}.new"
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    fresh.replace(folder / RECORD)


def _key(model: Path) -> str:
    digest = hashlib.sha256(_versions().encode())
    for path in _sources(model):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        digest.update(f"\0{path.relative_to(model).as_posix()}\0".encode() + content)
    return digest.hexdigest()[:16]


def _versions() -> str:
    return "\0".join((f"{VERSION}", *(f"{name} {version_of(name)}" for name in LIBRARIES)))


def _found_at(model: Path) -> tuple[str, str]:
    return path_text(model.resolve()), source_state(model)


def _damage(folder: Path, record: Record) -> str:
    """What is wrong with a converted model's files; empty: nothing that can be seen."""
    for name, expected in record.checks.items():
        try:
            if _check(folder / name) != expected:
                return f"{name} is not as it was written"
        except OSError as error:
            return f"{name}: {reason_of(error)}"
    return ""


def _check(file: Path) -> str:
    """Weights by their size alone: to read them takes seconds."""
    if file.name == WEIGHTS:
        return f"{file.stat().st_size} bytes"
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


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
        # Kept open: the converter ends when it closes, so it does not outlive this process.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            fraction, _, stage = line.decode("utf-8", "replace").strip().partition(" ")
            on_progress(float(fraction), stage)
        # Wait before its stdin is closed.
        process.wait()
    if process.returncode:
        reason = f"its conversion ended with code {process.returncode}, see the log"
        if process.returncode != FAILED:
            _remember_death(model, folder, reason)
        raise NotConvertible(reason)


def _remember_death(model: Path, folder: Path, reason: str) -> None:
    """A converter that was killed, mostly for want of memory, would be again at each load."""
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder, refused(model, f"{reason}; to try again, delete {path_text(folder)}"))
