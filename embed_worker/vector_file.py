"""A file of vectors that any number of processes read and write at once: SQLite, one row each.

It is a convenience that may fail: a full disk, a damaged file or another's lock cost the vectors,
which are computed again, and one line in the log.
"""

import logging
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

NAME = "vectors-1.sqlite3"
SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors (
    key BLOB NOT NULL UNIQUE,
    vector BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    computed_s REAL NOT NULL,
    used_s REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS by_use ON vectors (used_s);
"""
# Its journal; more is given back to the disk.
JOURNAL_BYTES = 1024 * 1024
# For another's lock.
PATIENCE_S = 1.0
# After a failure, until it is tried again.
REST_S = 30.0
KEYS_AT_ONCE = 500
# What a row takes beside its vector, about: key, times, indexes.
ROW_BYTES = 160
PORTIONS = 4
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

T = TypeVar("T")
log = logging.getLogger(__name__)


class StoredVector(msgspec.Struct, frozen=True):
    key: bytes
    vector: bytes
    # Seconds since the epoch.
    computed_s: float
    used_s: float


class FileSize(msgspec.Struct, frozen=True):
    n_bytes: int = 0
    n_entries: int = 0


class VectorFile:
    """One thread's connection, opened when it is first used.

    Args:
        folder: is made; only its owner may read it.
        max_bytes: of the file, without its journal.
    """

    def __init__(
        self, folder: Path, max_bytes: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = folder / NAME
        self._max_bytes = max_bytes
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._rests_until_s = 0.0
        self._complaint = ""
        # It is to be replaced, by whoever writes.
        self.is_damaged = False

    def read(self, keys: Sequence[bytes]) -> list[StoredVector]:
        """What is stored and sound, of `keys`."""

        def rows(connection: sqlite3.Connection) -> list[StoredVector]:
            found = []
            for at in range(0, len(keys), KEYS_AT_ONCE):
                some = keys[at : at + KEYS_AT_ONCE]
                marks = ", ".join("?" * len(some))
                query = (
                    "SELECT key, vector, computed_s, used_s, checksum FROM vectors "
                    f"WHERE key IN ({marks})"
                )
                found += [
                    StoredVector(*row)
                    for *row, checksum in connection.execute(query, some)
                    if isinstance(row[1], bytes) and zlib.crc32(row[1]) == checksum
                ]
            return found

        return self._guarded(rows, [])

    def write(self, fresh: Sequence[StoredVector], used: Sequence[bytes], used_s: float) -> int:
        """Store `fresh` and note that `used` were used; returns how many went for lack of room."""

        def store(connection: sqlite3.Connection) -> int:
            n_evicted = 0
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                for rows in self._portions(fresh):
                    wanted = sum(_most_bytes(row) for row in rows)
                    n_evicted += _make_room(connection, self._max_bytes - wanted)
                    connection.executemany(
                        "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)",
                        [
                            (r.key, r.vector, zlib.crc32(r.vector), r.computed_s, r.used_s)
                            for r in rows
                        ],
                    )
                connection.executemany(
                    "UPDATE vectors SET used_s = ? WHERE key = ?", [(used_s, key) for key in used]
                )
            return n_evicted

        return self._guarded(store, 0)

    def forget(self, before_s: float) -> None:
        """Delete what was computed before that time, and give free pages back to the disk."""

        def delete(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM vectors WHERE computed_s < ?", (before_s,))
            # Not `execute`, which takes its first step only.
            connection.executescript("PRAGMA incremental_vacuum;")

        self._guarded(delete, None)

    def size(self) -> FileSize:
        """Of all that is stored."""

        def measure(connection: sqlite3.Connection) -> FileSize:
            (n_entries,) = connection.execute("SELECT COUNT(*) FROM vectors").fetchone()
            return FileSize(_used_bytes(connection), n_entries)

        return self._guarded(measure, FileSize())

    def reopen(self) -> None:
        """Let go of the file, which may have been replaced."""
        self.close()
        self.is_damaged, self._rests_until_s = False, 0.0

    def replace(self) -> None:
        """Begin anew, if the file is damaged still: another process may have been quicker."""
        self.reopen()
        if self._is_sound():
            return
        log.warning("the vector cache %s is damaged: beginning anew", self._path)
        self.close()
        try:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(NAME + suffix).unlink(missing_ok=True)
        except OSError as error:
            # On Windows, while another process has it open.
            self._failed(error)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _portions(self, rows: Sequence[StoredVector]) -> Iterator[Sequence[StoredVector]]:
        """Few enough at a time that making room for them leaves most of what is stored."""
        longest = max((_most_bytes(row) for row in rows), default=1)
        n_rows = max(self._max_bytes // PORTIONS // longest, 1)
        for at in range(0, max(len(rows), 1), n_rows):
            yield rows[at : at + n_rows]

    def _is_sound(self) -> bool:
        try:
            return bool(self._open().execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
        except (sqlite3.Error, OSError):
            return False

    def _guarded(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        if self._clock() < self._rests_until_s:
            return otherwise
        try:
            found = work(self._open())
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            return otherwise
        self._complaint = ""
        return found

    def _failed(self, error: Exception) -> None:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_BUSY:
            return
        self.is_damaged = code in DAMAGED
        self._rests_until_s = self._clock() + REST_S
        self.close()
        if str(error) != self._complaint:
            self._complaint = str(error)
            log.warning("the vector cache %s is left alone for a while: %s", self._path, error)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self._path, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False
            )
            # Closed by `_failed` if what follows raises.
            self._connection = connection
            if connection.execute("PRAGMA page_count").fetchone() == (0,):
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            # A power cut may cost the latest vectors, and nothing else.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
            connection.executescript(SCHEMA)
        return self._connection


def _most_bytes(row: StoredVector) -> int:
    # Doubled: where a page takes one row but not two, half of it stays empty.
    return 2 * len(row.vector) + ROW_BYTES


def _make_room(connection: sqlite3.Connection, most_bytes: int) -> int:
    """Delete the least recently used until no more than `most_bytes` are; returns how many."""
    n_deleted = 0
    while (excess := _used_bytes(connection) - most_bytes) > 0:
        size = "SELECT AVG(LENGTH(vector)) FROM (SELECT vector FROM vectors LIMIT 100)"
        (vector_bytes,) = connection.execute(size).fetchone()
        if vector_bytes is None:
            break
        # Fewer than it looks like: pages are never full, so each row gives back more.
        n_rows = int(excess / 2 / (vector_bytes + ROW_BYTES)) + 1
        n_deleted += connection.execute(
            "DELETE FROM vectors WHERE rowid IN "
            "(SELECT rowid FROM vectors ORDER BY used_s LIMIT ?)",
            (n_rows,),
        ).rowcount
    return n_deleted


def _used_bytes(connection: sqlite3.Connection) -> int:
    pages, free, page_bytes = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page_bytes)
