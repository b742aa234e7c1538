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
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from embed_worker.encoders.conversion_files import (
    RECORD,
    Record,
    damage_of,
    digests,
    read_record,
    source_state,
    sources,
    versions,
    write_record,
)
from embed_worker.encoders.prepared import assemble, prepared_for
from worker_runtime.model_files.odd_paths import path_text

log = logging.getLogger(__name__)

# The exit code after an uncaught exception. After any other code it is unknown what happened.
FAILED = 1
UNFINISHED = ".new-"
KEY_LENGTH = 16
# The progress of a load that waits for another worker's conversion, and the seconds between
# reports of it.
WAITING = 0.1
TELL_S = 1.0
# The age after which the files of a killed converter are removed.
STALE_S = 3600
# The graph and its weights exist twice while they are written.
SPARE_DISK = 2.5


class NotConvertible(Exception):
    """The model must run on torch; the text states the reason."""


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
                _make(model, folder, on_progress)
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


@contextlib.contextmanager
def written(folder: Path, source: Path) -> Iterator[Path]:
    """Yield a temporary folder, which becomes `folder` when the block has ended without an error.

    The files of older versions of `source` and of killed converters are removed.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=unfinished_prefix(folder)) as place:
        fresh = Path(place) / folder.name
        fresh.mkdir()
        yield fresh
        _clear_away(folder.parent, source)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)


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
            return None if damage_of(path.parent, record) else record
    return None


def refused(model: Path, reason: str) -> Record:
    """Return a record which states that `model` stays on torch."""
    source, state = _found_at(model)
    return Record(source=source, state=state, refusal=reason)


def _key(model: Path) -> str:
    digest = hashlib.sha256(versions().encode())
    for name, content in digests(model).items():
        digest.update(f"\0{name}\0".encode() + bytes.fromhex(content))
    return digest.hexdigest()[:KEY_LENGTH]


def _key_in(folder: Path) -> str:
    """Return the key at the end of the folder's name, which keeps our own names short."""
    return folder.name[-KEY_LENGTH:]


def _undamaged(folder: Path) -> Record | None:
    record = read_record(folder)
    if record is not None and (damage := damage_of(folder, record)):
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


def _check_disk(model: Path, cache: Path) -> None:
    need = SPARE_DISK * sum(path.stat().st_size for path in sources(model))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
    except OSError as error:
        raise NotConvertible(f"the folder {cache} cannot be written to") from error
    if free < need:
        raise NotConvertible(f"the folder {cache} has {free >> 20} MiB left, less than it needs")


def _clear_away(cache: Path, source: Path) -> None:
    for path in cache.glob(f"*/{RECORD}"):
        record = read_record(path.parent)
        if record is None or record.source == path_text(source.resolve()):
            shutil.rmtree(path.parent, ignore_errors=True)
    for path in cache.glob(f"{UNFINISHED}*"):
        if time.time() - path.stat().st_mtime > STALE_S:
            shutil.rmtree(path, ignore_errors=True)


def _make(model: Path, folder: Path, on_progress: Callable[[float, str], None]) -> None:
    prepared = prepared_for(model)
    if prepared is None:
        _convert(model, folder, on_progress)
        return
    on_progress(0.2, "reading weights")
    with written(folder, model) as fresh:
        assemble(prepared, model, fresh)


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
