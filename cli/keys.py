"""`y26hkx key add|list|revoke|rotate|usage`: the keys of the key file, without a server."""

import argparse
import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import filelock
import msgspec

from cli.settings import StackSettings
from gateway.keys import administration
from gateway.keys.endpoints import NAMES
from gateway.keys.key_file import KeyFile, WrongLine
from gateway.keys.ledger import FILE_SUFFIX, SqliteLedger
from gateway.keys.periods import DAY_S, day_of
from gateway.keys.record import KeyRecord, Limits, NewKey, Rights
from gateway.keys.report import as_csv, rows_of

LIMITS = Limits.__struct_fields__
KINDS = ("chat", "embeddings")
FAILED = 1


def keys(argv: Sequence[str]) -> int:
    """Run one action and return the exit status."""
    chosen = _parser().parse_args(argv)
    settings = StackSettings.read({})
    path = chosen.file or settings.values.get("API_KEYS_FILE")
    if not path:
        return _fail("there is no key file: set API_KEYS_FILE, or give --file")
    try:
        return _ACTIONS[chosen.action](Path(path), chosen, settings)
    except administration.UnknownKey:
        return _fail(f"there is no key {chosen.id} in {path}")
    except (WrongLine, msgspec.ValidationError) as error:
        return _fail(str(error))
    except (OSError, filelock.Timeout, sqlite3.Error) as error:
        return _fail(f"{path}: {error}")


def _parser() -> argparse.ArgumentParser:
    key = argparse.ArgumentParser("y26hkx key", description="API keys with rights and limits.")
    key.add_argument("--file", type=Path, help="the key file (API_KEYS_FILE)")
    actions = key.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="add a key, and print it: it is shown only once")
    _add_rights(add)
    actions.add_parser("list", help="list the keys, and what they may do")
    for name, what in (
        ("revoke", "remove a key; running gateways refuse it at once"),
        ("rotate", "give a key another text; the old one is refused at once"),
    ):
        actions.add_parser(name, help=what).add_argument("id")
    usage = actions.add_parser("usage", help="print what keys used, by day and model, as CSV")
    usage.add_argument("id", nargs="?", help="of one key; without it: of all")
    usage.add_argument("--days", type=int, default=30, help="how many days to look back (30)")
    for action in (add, *(actions.choices[name] for name in ("list", "rotate"))):
        action.add_argument("--json", action="store_true", help="print JSON for scripts")
    return key


def _add_rights(add: argparse.ArgumentParser) -> None:
    add.add_argument("--alias", default="", help="its name in metrics and reports")
    add.add_argument("--model", action="append", help="a model it may use, or qwen*; repeatable")
    add.add_argument("--endpoint", action="append", choices=NAMES, help="what it may call")
    for kind in KINDS:
        prefix = "" if kind == "chat" else "embedding-"
        for limit in LIMITS:
            option = f"--{prefix}{limit.replace('_', '-')}"
            add.add_argument(option, type=int, dest=f"{kind}_{limit}", metavar="N")
    add.add_argument("--concurrent-requests", type=int, metavar="N")
    add.add_argument("--priority", type=int, default=0, metavar="N", help="-10 to 10")
    add.add_argument("--expires-in-days", type=float, metavar="DAYS")
    add.add_argument("--admin", action="store_true", help="it may do everything, and manage keys")


def _add(path: Path, chosen: argparse.Namespace, _: StackSettings) -> int:
    expires = chosen.expires_in_days
    given = {
        "alias": chosen.alias,
        "models": chosen.model,
        "endpoints": chosen.endpoint,
        "concurrent_requests": chosen.concurrent_requests,
        "priority": chosen.priority,
        "expires_at": None if expires is None else int(time.time() + expires * DAY_S),
        "admin": chosen.admin,
    }
    for kind in KINDS:
        limits = {limit: getattr(chosen, f"{kind}_{limit}") for limit in LIMITS}
        given[kind] = {limit: n for limit, n in limits.items() if n is not None}
    return _show(administration.add_key(path, msgspec.convert(given, Rights)), chosen)


def _rotate(path: Path, chosen: argparse.Namespace, _: StackSettings) -> int:
    return _show(administration.rotate_key(path, chosen.id), chosen)


def _revoke(path: Path, chosen: argparse.Namespace, _: StackSettings) -> int:
    administration.revoke_key(path, chosen.id)
    return 0


def _list(path: Path, chosen: argparse.Namespace, _: StackSettings) -> int:
    file = KeyFile(path.read_text(encoding="utf-8"))
    records = file.records.values()
    if chosen.json:
        _print(json.dumps([administration.described(record) for record in records]))
    else:
        for record in records:
            _print(f"{record.id}  {record.alias or '-':<20}  {_rights_line(record)}")
        if file.plain:
            _print(f"and {len(file.plain)} digests of keys with all rights")
    for mistake in file.mistakes:
        sys.stderr.write(f"{path}: {mistake}\n")
    return FAILED if file.mistakes else 0


def _usage(path: Path, chosen: argparse.Namespace, settings: StackSettings) -> int:
    kept = settings.values.get("USAGE_FILE") or path.with_name(path.name + FILE_SUFFIX)
    if not Path(kept).is_file():
        return _fail(f"there is no {kept}: no gateway of this machine has kept usage there")
    file = KeyFile(path.read_text(encoding="utf-8"))
    last = day_of(time.time())
    first = last - chosen.days + 1
    client = f"key:{chosen.id}" if chosen.id else None

    def alias(client: str) -> str:
        record = file.records.get(client.removeprefix("key:"))
        return record.alias if record is not None else ""

    async def report() -> str:
        ledger = SqliteLedger(Path(kept))
        try:
            return as_csv(rows_of(await ledger.report(first, last, client), alias))
        finally:
            await ledger.close()

    sys.stdout.write(asyncio.run(report()))
    return 0


def _rights_line(record: KeyRecord) -> str:
    shown = administration.described(record)
    names = [name for name in shown if name not in ("id", "object", "alias", "created_at")]
    said = {name: shown[name] for name in names if shown[name]}
    return ", ".join(f"{name}={_brief(value)}" for name, value in said.items()) or "no limits"


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}={n}" for name, n in value.items()) + "}"
    return "+".join(value) if isinstance(value, list) else str(value)


def _show(made: NewKey, chosen: argparse.Namespace) -> int:
    if chosen.json:
        _print(json.dumps(administration.described(made.record) | {"key": made.text}))
    else:
        _print(made.text)
        sys.stderr.write("It is shown only now: the key file has no more than a hash of it.\n")
    return 0


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _fail(reason: str) -> int:
    sys.stderr.write(f"y26hkx key: {reason}\n")
    return FAILED


_ACTIONS = {"add": _add, "list": _list, "revoke": _revoke, "rotate": _rotate, "usage": _usage}
