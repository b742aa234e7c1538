"""Stores records in a SQLite file, which outlives restarts and which gateways can share."""

import asyncio
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from common.error_texts import ErrorText
from common.errors import BackendFailure
from gateway.private_database import open_database
from gateway.stored_responses.store import Record

FILE = "responses.sqlite3"
DAMAGED = ".damaged"
AGE_S = 30 * 86400.0
BUSY_S = 5.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    owner TEXT NOT NULL, id TEXT NOT NULL, previous TEXT NOT NULL, input BLOB NOT NULL,
    response BLOB NOT NULL, n_bytes INTEGER NOT NULL, used_s REAL NOT NULL,
    PRIMARY KEY (owner, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON records (used_s);
CREATE INDEX IF NOT EXISTS by_owner ON records (owner, n_bytes);
"""
T = TypeVar("T")

log = logging.getLogger(__name__)


class SqliteStore:
    """A `ResponseStore` in a file.

    Args:
        folder: is created if it does not exist, with access for this user only.
        max_bytes: the limit for all records together.
        clock: returns the seconds since the epoch.
    """

    def __init__(
        self, folder: Path, max_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        # All threads of asyncio's pool share one connection, which one of them uses at a time.
        self._turn = threading.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._connection = _open(folder / FILE)

    async def put(self, owner: str, record: Record) -> None:
        """Store a record, and drop records that are too old or exceed the limit.

        Raises:
            BackendFailure: the file cannot be written.
        """
        await self._in_turn(lambda db: self._put(db, owner, record))

    async def get(self, owner: str, id: str) -> Record | None:
        """Return a record and note its use; None if it is not stored.

        Raises:
            BackendFailure: the file cannot be read or written.
        """
        return await self._in_turn(lambda db: self._get(db, owner, id))

    async def delete(self, owner: str, id: str) -> bool:
        """Delete a record, and return whether it was stored.

        Raises:
            BackendFailure: the file cannot be written.
        """
        text = "DELETE FROM records WHERE owner = ? AND id = ?"
        return await self._in_turn(lambda db: db.execute(text, (owner, id)).rowcount > 0)

    def close(self) -> None:
        with self._turn:
            self._connection.close()

    async def _in_turn(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.to_thread(self._transaction, work)

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with self._turn, self._connection as db:
                return work(db)
        except sqlite3.Error as error:
            log.warning("stored responses: %s", error)
            raise BackendFailure(ErrorText("responses_store_failed")) from error

    def _put(self, db: sqlite3.Connection, owner: str, record: Record) -> None:
        now_s = self._clock()
        row = (owner, record.id, record.previous, record.input, record.response)
        db.execute(
            "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*row, record.n_bytes, now_s),
        )
        db.execute("DELETE FROM records WHERE used_s < ?", (now_s - AGE_S,))
        while _sum(db) > self._max_bytes:
            db.execute(
                "DELETE FROM records WHERE (owner, id) IN (SELECT owner, id FROM records "
                "WHERE owner = (SELECT owner FROM records GROUP BY owner "
                "ORDER BY SUM(n_bytes) DESC LIMIT 1) ORDER BY used_s LIMIT 1)"
            )

    def _get(self, db: sqlite3.Connection, owner: str, id: str) -> Record | None:
        now_s = self._clock()
        found = db.execute(
            "UPDATE records SET used_s = ? WHERE owner = ? AND id = ? AND used_s >= ? "
            "RETURNING id, previous, input, response",
            (now_s, owner, id, now_s - AGE_S),
        ).fetchone()
        return None if found is None else Record(*found)


def _sum(db: sqlite3.Connection) -> int:
    (n_bytes,) = db.execute("SELECT TOTAL(n_bytes) FROM records").fetchone()
    return int(n_bytes)


def _open(path: Path) -> sqlite3.Connection:
    """Open the database; a file that is not a valid database is renamed first."""
    try:
        return open_database(path, SCHEMA, busy_s=BUSY_S)
    except sqlite3.OperationalError:
        # The file is locked or unreadable, or the disk is full: a new file would not help.
        raise
    except sqlite3.DatabaseError as error:
        aside = path.with_name(path.name + DAMAGED)
        log.warning("stored responses: %s is put aside as %s: %s", path.name, aside.name, error)
        os.replace(path, aside)
        return open_database(path, SCHEMA, busy_s=BUSY_S)
