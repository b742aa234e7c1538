"""A small table in a file that all workers of a user share and add to: what past loads taught."""

import contextlib
from pathlib import Path
from typing import Generic, TypeVar

import filelock
import msgspec

LOCK_S = 0.2

V = TypeVar("V")


class LearntTable(Generic[V]):
    """
    Args:
        file: is created with the first entry.
        kind: of the whole table, `dict[str, V]`.
        max_entries: the oldest are dropped beyond that.
        max_bytes: what of the file is read; a larger one counts as empty.
    """

    def __init__(
        self, file: Path, kind: type[dict[str, V]], *, max_entries: int, max_bytes: int
    ) -> None:
        self._file = file
        self._kind = kind
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._lock = filelock.FileLock(file.with_suffix(".lock"))

    def read(self) -> dict[str, V]:
        try:
            with self._file.open("rb") as file:
                return msgspec.json.decode(file.read(self._max_bytes), type=self._kind)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            # The file is missing or not in our format; the next entry writes a new one.
            return {}

    def put(self, key: str, value: V) -> None:
        """Add or replace an entry.

        Raises:
            OSError: the file cannot be written.
            filelock.Timeout: another process has held the lock for too long.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.acquire(timeout=LOCK_S, poll_interval=0.01):
            every = self.read()
            # The newest entry is last, because the oldest are dropped when there are too many.
            every.pop(key, None)
            kept = [*every.items(), (key, value)][-self._max_entries :]
            # Not flushed to the disk, as others wait: what a crash takes is learnt again.
            fresh = self._file.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(dict(kept)))
            with contextlib.suppress(PermissionError):
                # On Windows this fails while another process reads the file; it is learnt again.
                fresh.replace(self._file)
