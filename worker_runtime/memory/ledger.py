"""What all workers of one machine have booked, so that two never count on the same free bytes.

Each worker keeps one small file of its own in a folder that they share; a lock file makes looking
and booking one step. A file counts as long as the process that wrote it lives. A worker that needs
more than there is writes how much, and the others give idle models back for it.
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

# The lock is held for well under a millisecond; whoever holds it longer is stopped or dying.
LOCK_S = 0.2
# Clocks that tell when a process began are this coarse.
START_TOLERANCE_S = 1.0

log = logging.getLogger(__name__)


class LedgerEntry(msgspec.Struct, frozen=True):
    """One model of one worker; `pid` is its process's, 0 before there is one."""

    model: str
    booked_bytes: int
    pid: int = 0


class LedgerPage(msgspec.Struct, frozen=True):
    """What one worker has booked, and how much more it would like to have."""

    pid: int
    started_s: float
    entries: tuple[LedgerEntry, ...] = ()
    wanted_bytes: int = 0


class Ledger(Protocol):
    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[LedgerPage, ...]]:
        """The other workers' pages, which stay as they are inside the `with`."""

    def write(self, entries: tuple[LedgerEntry, ...], wanted_bytes: int) -> None:
        """Replace this worker's page; inside `open`."""


class NoLedger:
    """For a worker that shares its machine with no other."""

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[LedgerPage, ...]]:
        yield ()

    def write(self, entries: tuple[LedgerEntry, ...], wanted_bytes: int) -> None:
        pass


class FolderLedger:
    """
    Args:
        folder: made if it is missing, for this user alone.
    Raises:
        OSError: the folder cannot be made, or belongs to somebody else.
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
            # Better a moment without the lock than a worker that hangs with its neighbour, whose
            # process does not go on, or that fails with a full disk.
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
            # Models are served all the same; the next change tries again.
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
                # Its worker is gone, and so is what it had booked.
                with contextlib.suppress(OSError):
                    path.unlink()


def own_folder() -> Path:
    """This user's, where all processes of the machine find it."""
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
