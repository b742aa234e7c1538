"""Lets one of the workers that share a cache convert a model, while the others wait."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import filelock

from worker_runtime.conversion.process import OnProgress

UNFINISHED = ".new-"
KEY_LENGTH = 16
# The progress of a load that waits for another worker's conversion, and the seconds between
# reports of it.
WAITING = 0.1
TELL_S = 1.0


class CannotLock(Exception):
    """The text states which folder cannot be locked."""


def unfinished_prefix(folder: Path) -> str:
    """Return the beginning of the names of folders with unfinished conversions to `folder`."""
    return f"{UNFINISHED}{_key_in(folder)}-"


def _key_in(folder: Path) -> str:
    """Return the key at the end of the folder's name, which keeps our own names short."""
    return folder.name[-KEY_LENGTH:]


@contextlib.contextmanager
def alone(folder: Path, on_progress: OnProgress) -> Iterator[None]:
    """Hold the lock of the conversion to `folder`; workers that share the cache wait for it.

    The system releases it when this process ends, however that happens. What another conversion to
    the same folder has left unfinished is removed.

    Raises:
        CannotLock: the system does not allow it.
    """
    lock = filelock.FileLock(folder.parent / f".{_key_in(folder)}.lock")
    while not lock.is_locked:
        try:
            lock.acquire(timeout=TELL_S)
        except filelock.Timeout:
            on_progress(WAITING, "waiting for the conversion by another worker")
        except OSError as error:
            raise CannotLock(f"the folder {folder.parent} cannot be locked") from error
    try:
        for unfinished in folder.parent.glob(f"{unfinished_prefix(folder)}*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        yield
    finally:
        lock.release()
