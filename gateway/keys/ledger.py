"""What is kept of use, in a SQLite file: sums by key and period, and by key, day and model."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

FILE_SUFFIX = ".usage.sqlite3"
# Reports reach back so far.
KEPT_DAYS = 13 * 31
BUSY_S = 5.0
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
    Raises:
        sqlite3.Error, OSError: the file cannot be used.
    """

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            # SQLite gives the files beside the database the same permissions as the database.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._turn = threading.Lock()
        self._db = sqlite3.connect(path or ":memory:", timeout=BUSY_S, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(SCHEMA)
        self._cleaned_day = 0

    async def add(
        self, sums: Mapping[SumKey, int], usage: Mapping[UsageKey, Used], day: int
    ) -> dict[SumKey, int]:
        return await asyncio.to_thread(self._add, sums, usage, day)

    async def read(self, keys: Iterable[SumKey]) -> dict[SumKey, int]:
        return await asyncio.to_thread(self._sums, list(keys))

    async def report(self, first: int, last: int, client: str | None) -> dict[UsageKey, Used]:
        return await asyncio.to_thread(self._report, first, last, client)

    async def close(self) -> None:
        with self._turn:
            self._db.close()

    def _add(
        self, sums: Mapping[SumKey, int], usage: Mapping[UsageKey, Used], day: int
    ) -> dict[SumKey, int]:
        try:
            with self._turn, self._db as db:
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
        except sqlite3.Error as error:
            raise OSError(str(error)) from error
        return self._sums(list(sums))

    def _sums(self, keys: list[SumKey]) -> dict[SumKey, int]:
        text = "SELECT n FROM sums WHERE client = ? AND kind = ? AND measure = ? AND period = ?"
        try:
            with self._turn:
                found = ((key, self._db.execute(text, key).fetchone()) for key in keys)
                return {key: row[0] for key, row in found if row is not None}
        except sqlite3.Error as error:
            raise OSError(str(error)) from error

    def _report(self, first: int, last: int, client: str | None) -> dict[UsageKey, Used]:
        text = "SELECT * FROM usage WHERE day BETWEEN ? AND ?" + " AND client = ?" * bool(client)
        values = (first, last, *([client] if client else []))
        try:
            with self._turn:
                rows = self._db.execute(text, values).fetchall()
        except sqlite3.Error as error:
            raise OSError(str(error)) from error
        return {UsageKey(*row[:4]): Used(*row[4:]) for row in rows}
