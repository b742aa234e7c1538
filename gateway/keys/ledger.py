"""What is kept of use, in a SQLite file: sums by key and period, and by key, day and model."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from gateway.private_database import open_database

FILE_SUFFIX = ".usage.sqlite3"
# Reports reach back so far.
KEPT_DAYS = 13 * 31
BUSY_S = 5.0
T = TypeVar("T")
SCHEMA = """
CREATE TABLE IF NOT EXISTS sums (
    client TEXT, kind TEXT, measure TEXT, period INTEGER, n INTEGER NOT NULL, day INTEGER NOT NULL,
    PRIMARY KEY (client, kind, measure, period)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS usage (
    day INTEGER, client TEXT, kind TEXT, model TEXT,
    requests INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    PRIMARY KEY (day, client, kind, model)
) WITHOUT ROWID;
"""


class SumKey(NamedTuple):
    """A sum of requests or tokens: whose, of which kind of work, and of which minute, day or month.

    `measure` is a field of `record.Limits`, which says what is counted in which period.
    """

    client: str
    kind: str
    measure: str
    period: int


class UsageKey(NamedTuple):
    """`day`: days since the epoch."""

    day: int
    client: str
    kind: str
    model: str


class Used(NamedTuple):
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Ledger(Protocol):
    """Keeps sums beyond this process. All methods raise OSError when that fails."""

    async def add(
        self, sums: Mapping[SumKey, int], usage: Mapping[UsageKey, Used], day: int
    ) -> dict[SumKey, int]:
        """Add to sums and usage, and return the new sums, with what other gateways added."""

    async def read(self, keys: Iterable[SumKey]) -> dict[SumKey, int]:
        """The sums as they are."""

    async def report(self, first: int, last: int, client: str | None) -> dict[UsageKey, Used]:
        """The usage of the days from `first` to `last`, of one client or of all."""

    async def close(self) -> None: ...


class SqliteLedger:
    """A `Ledger` in a file, which the gateways of one machine can share.

    Args:
        path: None: in memory, for as long as this process lives.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        # All threads of asyncio's pool share one connection, which one of them uses at a time.
        self._turn = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._cleaned_day = 0

    async def add(
        self, sums: Mapping[SumKey, int], usage: Mapping[UsageKey, Used], day: int
    ) -> dict[SumKey, int]:
        return await self._in_turn(lambda db: self._add(db, sums, usage, day))

    async def read(self, keys: Iterable[SumKey]) -> dict[SumKey, int]:
        asked = list(keys)
        return await self._in_turn(lambda db: _sums(db, asked))

    async def report(self, first: int, last: int, client: str | None) -> dict[UsageKey, Used]:
        return await self._in_turn(lambda db: _report(db, first, last, client))

    async def close(self) -> None:
        with self._turn:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    async def _in_turn(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.to_thread(self._transaction, work)

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with self._turn:
                if self._connection is None:
                    self._connection = open_database(self._path, SCHEMA, busy_s=BUSY_S)
                with self._connection as db:
                    return work(db)
        except sqlite3.Error as error:
            raise OSError(str(error)) from error

    def _add(
        self,
        db: sqlite3.Connection,
        sums: Mapping[SumKey, int],
        usage: Mapping[UsageKey, Used],
        day: int,
    ) -> dict[SumKey, int]:
        db.executemany(
            "INSERT INTO sums VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET n = n + excluded.n",
            [(*key, n, day) for key, n in sums.items()],
        )
        db.executemany(
            "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "requests = requests + excluded.requests, "
            "prompt_tokens = prompt_tokens + excluded.prompt_tokens, "
            "completion_tokens = completion_tokens + excluded.completion_tokens",
            [(*key, *used) for key, used in usage.items()],
        )
        if day > self._cleaned_day:
            db.execute("DELETE FROM usage WHERE day < ?", (day - KEPT_DAYS,))
            # The longest period is a month.
            db.execute("DELETE FROM sums WHERE day < ?", (day - 31,))
            self._cleaned_day = day
        return _sums(db, list(sums))


def _sums(db: sqlite3.Connection, keys: list[SumKey]) -> dict[SumKey, int]:
    text = "SELECT n FROM sums WHERE client = ? AND kind = ? AND measure = ? AND period = ?"
    found = ((key, db.execute(text, key).fetchone()) for key in keys)
    return {key: row[0] for key, row in found if row is not None}


def _report(
    db: sqlite3.Connection, first: int, last: int, client: str | None
) -> dict[UsageKey, Used]:
    text = "SELECT * FROM usage WHERE day BETWEEN ? AND ?" + " AND client = ?" * bool(client)
    rows = db.execute(text, (first, last, *([client] if client else []))).fetchall()
    return {UsageKey(*row[:4]): Used(*row[4:]) for row in rows}
