"""`y26hkx key`: the key file from the command line."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from cli.__main__ import main
from gateway.keys.key_file import KeyFile
from gateway.keys.ledger import FILE_SUFFIX, SqliteLedger, UsageKey, Used
from gateway.keys.periods import day_of
from gateway.keys.record import split_key


def keys(path: Path, *arguments: str) -> int:
    return main(["key", "--file", str(path), *arguments])


def test_an_added_key_is_printed_once_and_the_file_can_check_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys"
    options = ["--alias", "7b", "--model", "qwen*", "--endpoint", "chat", "--priority", "-2"]
    assert keys(path, "add", *options, "--tokens-per-day", "100", "--expires-in-days", "1") == 0
    text = capsys.readouterr().out.strip()
    id, secret = split_key(text) or ("", "")
    record = KeyFile(path.read_text()).records[id]
    assert record.opens(secret)
    assert (record.alias, record.models, record.priority) == ("7b", ("qwen*",), -2)
    assert record.chat.tokens_per_day == 100
    assert record.embeddings.tokens_per_day is None
    assert secret not in path.read_text()
    assert keys(path, "list") == 0
    listed = capsys.readouterr().out
    assert listed.startswith(f"{id}  7b")
    assert "chat={tokens_per_day=100}" in listed


def test_a_key_is_rotated_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{'0' * 64} an older one\n")
    assert keys(path, "add", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert keys(path, "rotate", made["id"], "--json") == 0
    rotated = json.loads(capsys.readouterr().out)
    assert rotated["id"] == made["id"]
    assert rotated["key"] != made["key"]
    record = KeyFile(path.read_text()).records[made["id"]]
    assert not record.opens(made["key"].rpartition("-")[2])
    assert keys(path, "revoke", made["id"]) == 0
    assert path.read_text() == f"{'0' * 64} an older one\n"
    assert keys(path, "revoke", made["id"]) == 1
    assert "there is no key" in capsys.readouterr().err


async def test_what_keys_used_is_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys"
    assert keys(path, "add", "--alias", "7b", "--json") == 0
    id = json.loads(capsys.readouterr().out)["id"]
    assert keys(path, "usage") == 1
    ledger = SqliteLedger(path.with_name(path.name + FILE_SUFFIX))
    day = day_of(time.time())
    used = {UsageKey(day, f"key:{id}", "chat", "=SUM(A1)"): Used(1, 2, 3)}
    await ledger.add({}, used, day)
    await ledger.close()
    capsys.readouterr()
    assert await asyncio.to_thread(keys, path, "usage", id) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.startswith("date,key,alias")
    # A spreadsheet must not compute what a model's name says.
    assert row.split(",", 1)[1] == f"{id},7b,chat,'=SUM(A1),1,2,3,5"


def test_mistakes_are_said_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("API_KEYS_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["key", "list"]) == 1
    assert "API_KEYS_FILE" in capsys.readouterr().err
    assert keys(tmp_path / "keys", "add", "--priority", "99") == 1
    assert keys(tmp_path, "add") == 1
    assert len(capsys.readouterr().err.splitlines()) == 2
