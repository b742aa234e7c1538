"""Adds, changes and removes keys in the key file: for the API and for the command line."""

import time
from pathlib import Path
from typing import Any

import msgspec

from gateway.keys.key_file import checked, edit
from gateway.keys.record import KeyRecord, NewKey, Rights, new_key


class UnknownKey(LookupError):
    """The file has no key with this id."""


def add_key(path: Path, rights: Rights) -> NewKey:
    """Add a key with a new id.

    Raises:
        WrongLine: it names endpoints that do not exist.
        OSError: the file cannot be written.
    """
    made = new_key(rights, int(time.time()))
    checked(made.record)
    _put(path, made.record)
    return made


def change_key(path: Path, id: str, rights: Rights) -> KeyRecord:
    """Give a key other rights; its secret stays.

    Raises:
        UnknownKey, WrongLine, OSError: as above.
    """
    changed: list[KeyRecord] = []

    def change(records: dict[str, KeyRecord]) -> None:
        given = {name: getattr(rights, name) for name in Rights.__struct_fields__}
        record = checked(msgspec.structs.replace(_known(records, id), **given))
        records[id] = record
        changed.append(record)

    edit(path, change)
    return changed[0]


def rotate_key(path: Path, id: str) -> NewKey:
    """Give a key another secret; the old one is void at once.

    Raises:
        UnknownKey, OSError: as above.
    """
    made: list[NewKey] = []

    def change(records: dict[str, KeyRecord]) -> None:
        made.append(new_key(_known(records, id), int(time.time()), id))
        records[id] = made[0].record

    edit(path, change)
    return made[0]


def revoke_key(path: Path, id: str) -> None:
    """Remove a key.

    Raises:
        UnknownKey, OSError: as above.
    """

    def change(records: dict[str, KeyRecord]) -> None:
        _known(records, id)
        del records[id]

    edit(path, change)


def described(record: KeyRecord) -> dict[str, Any]:
    """What an admin sees of a key: all but what its secret is checked with."""
    found: dict[str, Any] = msgspec.to_builtins(record)
    for name in ("salt", "hash"):
        found.pop(name, None)
    defaults = {"alias": "", "priority": 0, "admin": False, "models": None, "endpoints": None}
    return {"object": "key"} | defaults | {"chat": {}, "embeddings": {}} | found


def _known(records: dict[str, KeyRecord], id: str) -> KeyRecord:
    if id not in records:
        raise UnknownKey(id)
    return records[id]


def _put(path: Path, record: KeyRecord) -> None:
    def change(records: dict[str, KeyRecord]) -> None:
        records[record.id] = record

    edit(path, change)
