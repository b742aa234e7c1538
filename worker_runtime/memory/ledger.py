"""The reservations of all workers of one machine, so that two never count on the same free bytes.

Each worker writes one small file into a shared folder. A lock file makes reading and reserving one
step. A file counts as long as the process that wrote it lives. A worker that lacks memory writes
how much, and the others evict idle models for it.
"""

import contextlib
import getpass
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import filelock
import msgspec
import psutil

# The lock is held for well under a millisecond; a process that holds it longer is stopped or dying.
LOCK_S = 0.2
# The precision of the system's process start times.
START_TOLERANCE_S = 1.0

log = logging.getLogger(__name__)


class LedgerEntry(msgspec.Struct, frozen=True):
    """The reservation of one model; `pid` is its process, 0 before the process has started."""

    model: str
    booked_bytes: int
    pid: int = 0


class LedgerPage(msgspec.Struct, frozen=True):
    """What one worker has reserved, and how many more bytes it lacks."""

    pid: int
    started_s: float
    entries: tuple[LedgerEntry, ...] = ()
    wanted_bytes: int = 0


class Ledger(Protocol):
    """The reservations of all workers of one machine."""

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[LedgerPage, ...]]:
        """Return the other workers' pages, which do not change inside the `with` block."""

    def write(self, entries: tuple[LedgerEntry, ...], wanted_bytes: int) -> None:
        """Replace this worker's page. To be called inside `open`."""


class NoLedger:
    """For a worker that is alone on its machine."""

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[LedgerPage, ...]]:
        yield ()

    def write(self, entries: tuple[LedgerEntry, ...], wanted_bytes: int) -> None:
        pass


class FolderLedger:
    """A ledger of one file per worker in a shared folder.

    Args:
        folder: the shared folder; it is created if missing, readable by this user only.
    Raises:
        OSError: the folder cannot be created, or belongs to another user.
    """

    def __init__(self, folder: Path) -> None:
        _claim(folder)
        self._folder = folder
        self._lock = filelock.FileLock(folder / "lock")
        self._own = folder / f"{os.getpid()}.json"
        self._started_s = psutil.Process().create_time()
        self._written = LedgerPage(os.getpid(), self._started_s)

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[LedgerPage, ...]]:
        try:
            self._lock.acquire(timeout=LOCK_S, poll_interval=0.001)
        except OSError as error:
            # Going on without the lock for a moment is better than to hang with another worker
            # whose process is stopped, or to fail because the disk is full.
            log.warning("the memory ledger could not be locked: %s", error)
        try:
            yield tuple(self._pages())
        finally:
            self._lock.release()

    def write(self, entries: tuple[LedgerEntry, ...], wanted_bytes: int) -> None:
        page = LedgerPage(os.getpid(), self._started_s, entries, wanted_bytes)
        if page == self._written:
            return
        fresh = self._own.with_suffix(".new")
        try:
            fresh.write_bytes(msgspec.json.encode(page))
            fresh.replace(self._own)
        except OSError as error:
            # Models can still be served; the next change writes the page again.
            log.warning("the memory ledger could not be written: %s", error)
        else:
            self._written = page

    def _pages(self) -> Iterator[LedgerPage]:
        for path in self._folder.glob("*.json"):
            if path == self._own:
                continue
            page = _read(path)
            if page is not None and _lives(page):
                yield page
            else:
                # The worker has ended, so its reservations do not count.
                with contextlib.suppress(OSError):
                    path.unlink()


def own_folder() -> Path:
    """This user's default folder, the same for all processes of the machine."""
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    return Path(tempfile.gettempdir()) / f"y26hkx-{user}"


def _claim(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid"):
        status = folder.lstat()
        if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
            raise PermissionError(f"{folder} is not this user's own folder")


def _read(path: Path) -> LedgerPage | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=LedgerPage)
    except (OSError, msgspec.DecodeError):
        return None


def _lives(page: LedgerPage) -> bool:
    try:
        started_s = psutil.Process(page.pid).create_time()
    except (psutil.Error, ValueError):
        return False
    return abs(started_s - page.started_s) <= START_TOLERANCE_S
