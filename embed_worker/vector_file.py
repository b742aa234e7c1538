"""A file of vectors that many processes read and write at once: SQLite, one row per vector.

The file may fail: a full disk, a damaged file or another process's lock loses only vectors, which
are computed again, and writes one line to the log.
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
# The size of its journal; more is returned to the disk.
JOURNAL_BYTES = 1024 * 1024
# How long to wait for another process's lock.
PATIENCE_S = 1.0
# After a failure, the time until the file is used again.
REST_S = 30.0
KEYS_AT_ONCE = 500
# What a row needs besides its vector, roughly: key, times, indexes.
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
    """One thread's connection, opened at its first use.

    Args:
        folder: created if it is missing; only its owner may read it.
        max_bytes: for the file without its journal.
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
        # The file must be replaced by the thread that writes.
        self.is_damaged = False

    def read(self, keys: Sequence[bytes]) -> list[StoredVector]:
        """The stored and valid vectors for `keys`."""

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
        """Store `fresh` and record the use of `used`; returns how many vectors were evicted."""

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
        """Delete vectors computed before this time, and return free pages to the disk."""

        def delete(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM vectors WHERE computed_s < ?", (before_s,))
            # `execute` would run only the first step of it.
            connection.executescript("PRAGMA incremental_vacuum;")

        self._guarded(delete, None)

    def size(self) -> FileSize:
        """The size of all stored vectors."""

        def measure(connection: sqlite3.Connection) -> FileSize:
            (n_entries,) = connection.execute("SELECT COUNT(*) FROM vectors").fetchone()
            return FileSize(_used_bytes(connection), n_entries)

        return self._guarded(measure, FileSize())

    def reopen(self) -> None:
        """Close the connection, because the file may have been replaced."""
        self.close()
        self.is_damaged, self._rests_until_s = False, 0.0

    def replace(self) -> None:
        """Create a new file if the old one is still damaged: another process may have done so."""
        self.reopen()
        if self._is_sound():
            return
        log.warning("the vector cache %s is damaged and is created again", self._path)
        self.close()
        try:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(NAME + suffix).unlink(missing_ok=True)
        except OSError as error:
            # Windows refuses this while another process has the file open.
            self._failed(error)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _portions(self, rows: Sequence[StoredVector]) -> Iterator[Sequence[StoredVector]]:
        """The rows in groups, small enough that making room for one evicts few stored rows."""
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
            log.warning("the vector cache %s is not used for a while: %s", self._path, error)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self._path, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False
            )
            # `_failed` closes it if the following raises.
            self._connection = connection
            if connection.execute("PRAGMA page_count").fetchone() == (0,):
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            # A power failure may lose the latest vectors, but nothing else.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
            connection.executescript(SCHEMA)
        return self._connection


def _most_bytes(row: StoredVector) -> int:
    # Doubled: if a page holds one row but not two, half of it stays empty.
    return 2 * len(row.vector) + ROW_BYTES


def _make_room(connection: sqlite3.Connection, most_bytes: int) -> int:
    """Delete the least recently used rows until at most `most_bytes` remain; returns how many."""
    n_deleted = 0
    while (excess := _used_bytes(connection) - most_bytes) > 0:
        size = "SELECT AVG(LENGTH(vector)) FROM (SELECT vector FROM vectors LIMIT 100)"
        (vector_bytes,) = connection.execute(size).fetchone()
        if vector_bytes is None:
            break
        # Fewer than the quotient, because pages are never full and each row frees more.
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
