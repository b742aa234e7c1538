"""The audit log: who did what to the server, and who tried."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.keys.administration import add_key
from gateway.keys.record import Rights
from tests.contract.running_gateway import running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID


def said(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


async def test_what_admins_do_and_others_try_is_written_and_what_is_read_is_not(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    keys, audit = tmp_path / "keys", tmp_path / "audit.jsonl"
    audit.write_text('{"an": "older line"}\n')
    admin = add_key(keys, Rights(admin=True, alias="boss"))
    other = add_key(keys, Rights())
    async with running_gateway([worker], api_keys_file=keys, audit_log=audit) as gateway:

        async def ask(method: str, path: str, key: str, body: Any = None) -> Any:
            headers = {"authorization": f"Bearer {key}"}
            return await gateway.http.request(method, path, json=body, headers=headers)

        await ask("GET", "/v1/admin/keys", admin.text)
        await ask("POST", "/v1/models/unload", admin.text, {"model": CHAT_ID})
        await ask("POST", "/v1/models/unload", other.text, {"model": CHAT_ID})
        # Whoever has no key can do nothing, and fill no disk.
        await ask("POST", "/v1/models/unload", "wrong", {"model": CHAT_ID})
        made = (await ask("POST", "/v1/admin/keys", admin.text, {"alias": "new"})).json()
        await ask("DELETE", f"/v1/admin/keys/{made['id']}", admin.text)
        await ask("DELETE", "/v1/admin/keys/no%0A%22key", admin.text)
    older, unload, refused, added, revoked, missing = said(audit)
    assert older == {"an": "older line"}
    assert (unload["key"], unload["model"], unload["status"]) == ("boss", CHAT_ID, 200)
    assert unload["client"] == admin.record.client
    assert unload["route"] == "/v1/models/unload"
    assert (refused["client"], refused["status"]) == (other.record.client, 403)
    assert (added["key_id"], added["status"]) == (made["id"], 200)
    assert (revoked["key_id"], revoked["method"]) == (made["id"], "DELETE")
    assert (missing["key_id"], missing["status"]) == ('no\n"key', 404)
    assert made["key"] not in audit.read_text()


async def test_a_log_that_cannot_be_written_is_said_and_stops_nothing(
    worker: ScriptedWorker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_gateway([worker], audit_log=tmp_path) as gateway:
        reply = await gateway.http.post("/v1/models/unload", json={"model": CHAT_ID})
    assert reply.status_code == 200
    assert "the audit log cannot be written" in caplog.text
