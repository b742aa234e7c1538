"""Caches models that are converted for OpenVINO in a folder of the user; each is converted once.

A conversion needs torch and hundreds of megabytes, so it runs in a process of its own, which has
ended when the encoder starts. A converted model is named by a hash of everything that it depends
on. Where reading all files would take too long, it is found by the model's folder and the times of
the files.
"""

import contextlib
import hashlib
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import msgspec

from common.packages import version_of
from worker_runtime.model_files.foreign_files import reason_of
from worker_runtime.model_files.odd_paths import path_text

log = logging.getLogger(__name__)

# Raise this number when the conversion changes, so that every model is converted again.
VERSION = 3
RECORD = "encoder.json"
GRAPH = "model.xml"
WEIGHTS = "model.bin"
TOKENIZER = "tokenizer.json"
LIBRARIES = ("openvino", "torch", "transformers", "sentence-transformers")
SOURCES = ("*.safetensors", "*.json", "[0-9]*_*/*.safetensors", "[0-9]*_*/*.json")
# The exit code after an uncaught exception. After any other code it is unknown what happened.
FAILED = 1
UNFINISHED = ".new-"
KEY_LENGTH = 16
# The progress of a load that waits for another worker's conversion, and the seconds between
# reports of it.
WAITING = 0.1
TELL_S = 1.0
# The graph and its weights exist twice while they are written.
SPARE_DISK = 2.5


class NotConvertible(Exception):
    """The model must run on torch; the text states the reason."""


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


def converted(
    model: Path, cache: Path, on_progress: Callable[[float, str], None]
) -> tuple[Path, Record]:
    """Return the folder with the converted form of `model`, and its record.

    Raises:
        NotConvertible: the model, or this machine, does not allow a conversion.
    """
    folder = cache / f"{model.name}-{_key(model)}"
    record = _undamaged(folder)
    if record is None:
        _check_disk(model, cache)
        with _alone(folder, on_progress):
            # Another worker may have converted the model in the meantime.
            record = _undamaged(folder)
            if record is None:
                _convert(model, folder, on_progress)
                record = read_record(folder)
    if record is None:
        raise NotConvertible("its conversion left nothing behind")
    if record.refusal:
        raise NotConvertible(record.refusal)
    if (record.source, record.state) != (found := _found_at(model)):
        record.source, record.state = found
        # If this cannot be written, the next load reserves memory for a conversion again.
        with contextlib.suppress(OSError):
            write_record(folder, record)
    return folder, record


def unfinished_prefix(folder: Path) -> str:
    """Return the beginning of the names of folders with unfinished conversions to `folder`."""
    return f"{UNFINISHED}{_key_in(folder)}-"


def known(model: Path, cache: Path) -> Record | None:
    """Return the record of `model`'s conversion, found by the times of the model's files.

    Returns:
        None if the model would be converted when it is loaded.
    """
    found = _found_at(model)
    for path in cache.glob(f"*/{RECORD}"):
        record = read_record(path.parent)
        if record is not None and (record.source, record.state) == found:
            return None if _damage(path.parent, record) else record
    return None


def refused(model: Path, reason: str) -> Record:
    """Return a record which states that `model` stays on torch."""
    source, state = _found_at(model)
    return Record(source=source, state=state, refusal=reason)


def checks_of(folder: Path) -> dict[str, str]:
    """Return checks of a converted model's files, which later show whether one is damaged."""
    return {name: _check(folder / name) for name in (GRAPH, WEIGHTS, TOKENIZER)}


def source_state(model: Path) -> str:
    """Return a hash that changes with the files of `model` or a library; no file is read."""
    digest = hashlib.sha256(_versions().encode())
    for path in _sources(model):
        stat = path.stat()
        name = path.relative_to(model).as_posix()
        digest.update(f"\0{name}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


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


def _key(model: Path) -> str:
    digest = hashlib.sha256(_versions().encode())
    for path in _sources(model):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        digest.update(f"\0{path.relative_to(model).as_posix()}\0".encode() + content)
    return digest.hexdigest()[:KEY_LENGTH]


def _versions() -> str:
    return "\0".join((f"{VERSION}", *(f"{name} {version_of(name)}" for name in LIBRARIES)))


def _key_in(folder: Path) -> str:
    """Return the key at the end of the folder's name, which keeps our own names short."""
    return folder.name[-KEY_LENGTH:]


def _undamaged(folder: Path) -> Record | None:
    record = read_record(folder)
    if record is not None and (damage := _damage(folder, record)):
        log.warning("the converted form in %s is damaged: %s", folder, damage)
        return None
    return record


@contextlib.contextmanager
def _alone(folder: Path, on_progress: Callable[[float, str], None]) -> Iterator[None]:
    """Hold the lock of the conversion to `folder`; workers that share the cache wait for it.

    The system releases it when this process ends, however that happens. What another conversion to
    the same folder has left unfinished is removed.
    """
    lock = filelock.FileLock(folder.parent / f".{_key_in(folder)}.lock")
    while not lock.is_locked:
        try:
            lock.acquire(timeout=TELL_S)
        except filelock.Timeout:
            on_progress(WAITING, "waiting for the conversion by another worker")
        except OSError as error:
            raise NotConvertible(f"the folder {folder.parent} cannot be locked") from error
    try:
        for unfinished in folder.parent.glob(f"{unfinished_prefix(folder)}*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        yield
    finally:
        lock.release()


def _found_at(model: Path) -> tuple[str, str]:
    return path_text(model.resolve()), source_state(model)


def _damage(folder: Path, record: Record) -> str:
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
        # The converter ends when its stdin closes, so it does not outlive this process.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            fraction, _, stage = line.decode("utf-8", "replace").strip().partition(" ")
            on_progress(float(fraction), stage)
        # Leaving the block closes its stdin, so wait for its end before that.
        process.wait()
    if process.returncode:
        reason = f"its conversion ended with code {process.returncode}, see the log"
        if process.returncode != FAILED:
            _remember_death(model, folder, reason)
        raise NotConvertible(reason)


def _remember_death(model: Path, folder: Path, reason: str) -> None:
    """Record a converter's death, mostly for lack of memory, so that no load starts it again."""
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder, refused(model, f"{reason}; to try again, delete {path_text(folder)}"))
