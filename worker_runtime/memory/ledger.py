"""The reservations of all workers of one machine, so that two never count on the same free bytes.

Each worker writes one small file into a shared folder. A lock file makes reading and reserving one
step. A file counts as long as the process that wrote it lives, which holds a lock of its own: the
number of a process means nothing in another container. A worker that lacks memory writes how much,
and the others evict idle models for it.
"""

import contextlib
import getpass
import logging
import os
import stat
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import filelock
import msgspec

# The lock is held for well under a millisecond; a process that holds it longer is stopped or dying.
LOCK_S = 0.2

log = logging.getLogger(__name__)


class LedgerEntry(msgspec.Struct, frozen=True):
    """The reservation of one model.

    Args:
        pid: its process, as its worker numbers processes; 0 before it has started.
        taken_bytes: of the reservation, as its worker measured it last.
    """

    model: str
    booked_bytes: int
    pid: int = 0
    taken_bytes: int = 0


class LedgerPage(msgspec.Struct, frozen=True):
    """What one worker has reserved, and how many more bytes it lacks.

    Args:
        place: where processes have the numbers of `entries`: this machine, or a container of it.
        wanted_bytes: for those who share its place, and the limits of that.
        machine_wanted_bytes: for the others: what the machine lacks, whatever a container's limit.
    """

    place: str
    entries: tuple[LedgerEntry, ...] = ()
    wanted_bytes: int = 0
    machine_wanted_bytes: int = 0


class Ledger(Protocol):
    """The reservations of all workers of one machine."""

    @property
    def place(self) -> str:
        """The place of this worker's own page."""

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[LedgerPage, ...]]:
        """Return the other workers' pages, which do not change inside the `with` block."""

    def write(
        self, entries: tuple[LedgerEntry, ...], wanted_bytes: int, machine_wanted_bytes: int
    ) -> None:
        """Replace this worker's page. To be called inside `open`."""


class NoLedger:
    """For a worker that is alone on its machine."""

    place = ""

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[LedgerPage, ...]]:
        yield ()

    def write(
        self, entries: tuple[LedgerEntry, ...], wanted_bytes: int, machine_wanted_bytes: int
    ) -> None:
        pass


class FolderLedger:
    """A ledger of one file per worker in a shared folder.

    Args:
        folder: the shared folder; it is created if missing, readable by this user only.
        place: where processes have the numbers that this worker knows; None: found out.
    Raises:
        OSError: the folder cannot be created, has no locks, or belongs to another user.
    """

    def __init__(self, folder: Path, place: str | None = None) -> None:
        _claim(folder)
        self.place = _pid_namespace() if place is None else place
        self._folder = folder
        self._lock = filelock.FileLock(folder / "lock")
        self._own = folder / f"{uuid.uuid4().hex}.json"
        # Held until this process ends.
        self._alive = filelock.FileLock(_alive_file(self._own))
        try:
            # Nobody may ask for the lock before this process has it.
            with self._exclusively():
                self._alive.acquire(timeout=0)
        except NotImplementedError as error:
            raise OSError(str(error)) from error
        self._written = LedgerPage(self.place)

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[LedgerPage, ...]]:
        with self._exclusively():
            yield tuple(self._pages())

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        try:
            self._lock.acquire(timeout=LOCK_S, poll_interval=0.001)
        except OSError as error:
            # Going on without the lock for a moment is better than to hang with another worker
            # whose process is stopped, or to fail because the disk is full.
            log.warning("the memory ledger could not be locked: %s", error)
        try:
            yield
        finally:
            self._lock.release()

    def write(
        self, entries: tuple[LedgerEntry, ...], wanted_bytes: int, machine_wanted_bytes: int
    ) -> None:
        page = LedgerPage(self.place, entries, wanted_bytes, machine_wanted_bytes)
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
        # A worker that has booked nothing yet has no page.
        suffixes = (".json", ".alive")
        found = {
            file.with_suffix(".json")
            for suffix in suffixes
            for file in self._folder.glob(f"*{suffix}")
        }
        for path in found - {self._own}:
            if _is_locked(_alive_file(path)):
                if (page := _read(path)) is not None:
                    yield page
                continue
            # The worker has ended, so its reservations do not count.
            for file in (path, _alive_file(path)):
                with contextlib.suppress(OSError):
                    file.unlink()


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


def _alive_file(page: Path) -> Path:
    return page.with_suffix(".alive")


def _is_locked(file: Path) -> bool:
    try:
        with filelock.FileLock(file, timeout=0):
            return False
    except OSError:
        # A lock that nobody can ask for is no sign of an end.
        return True


def _pid_namespace() -> str:
    if sys.platform != "linux":
        return ""
    return str(Path("/proc/self/ns/pid").readlink())
