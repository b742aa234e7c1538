"""Opens SQLite databases that only this user may read."""

import os
import sqlite3
from pathlib import Path


def open_database(path: Path | None, schema: str, *, busy_s: float) -> sqlite3.Connection:
    """Open the database at `path`, or one in memory, with its tables.

    Args:
        schema: statements that make what is missing.
        busy_s: how long a statement waits for other processes, in seconds.
    Raises:
        sqlite3.Error: the file is not a valid database, or cannot be used.
        OSError: the file cannot be created.
    """
    if path is not None:
        # SQLite gives the files beside the database the same permissions as the database.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    db = sqlite3.connect(path or ":memory:", timeout=busy_s, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(schema)
    except sqlite3.Error:
        db.close()
        raise
    return db
