"""Keys with rights: what each may do, how they are managed, and what today's keys still may."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from common import errors
from gateway.app import create_app
from gateway.keys.administration import add_key, revoke_key
from gateway.keys.endpoints import ADMIN, need_of
from gateway.keys.record import Limits, Rights
from gateway.settings import GatewaySettings
from tests.contract.failures import raising
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, EMBED_ID, PROMPT_TOKENS

CHAT, EMBED = "/v1/chat/completions", "/v1/embeddings"
BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
INPUT = {"input": "hi"}


@dataclass
class Team:
    """A gateway whose key file has an admin."""

    gateway: RunningGateway
    path: Path
    admin: dict[str, str]

    def add(self, **rights: Any) -> dict[str, str]:
        """The header of a new key."""
        return bearer(add_key(self.path, Rights(**rights)).text)

    async def chat(self, key: dict[str, str], **more: Any) -> Any:
        return await self.gateway.http.post(CHAT, json=BODY | more, headers=key)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
async def team(worker: ScriptedWorker, tmp_path: Path) -> AsyncIterator[Team]:
    path = tmp_path / "keys.jsonl"
    admin = bearer(add_key(path, Rights(admin=True, alias="boss")).text)
    async with running_gateway([worker], api_keys_file=path) as gateway:
        yield Team(gateway, path, admin)


async def test_a_key_is_valid_once_it_is_in_the_file_and_no_longer_when_it_is_not(
    team: Team,
) -> None:
    made = add_key(team.path, Rights())
    assert (await team.chat(bearer(made.text))).status_code == 200
    revoke_key(team.path, made.record.id)
    refused = await team.chat(bearer(made.text))
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "invalid_api_key"
    assert refused.json()["error"]["message"].startswith("Incorrect API key provided")


async def test_neither_the_secret_nor_the_key_is_in_the_file(team: Team) -> None:
    made = add_key(team.path, Rights())
    secret = made.text.rpartition("-")[2]
    assert secret not in team.path.read_text()
    # The same secret under another id is another key.
    other = made.text.replace(made.record.id, "a" * 12)
    assert (await team.chat(bearer(other))).status_code == 401


async def test_a_key_works_until_it_expires(team: Team) -> None:
    now = int(time.time())
    assert (await team.chat(team.add(expires_at=now + 60))).status_code == 200
    refused = await team.chat(team.add(expires_at=now - 1))
    assert refused.status_code == 401
    assert "expired" in refused.json()["error"]["message"]


async def test_a_key_may_use_only_the_models_that_it_names(team: Team) -> None:
    key = team.add(models=("qwen*",))
    # The default model is one of them.
    assert (await team.chat(key)).status_code == 200
    assert (await team.chat(key, model=CHAT_ID.upper())).status_code == 200
    refused = await team.gateway.http.post(EMBED, json=INPUT | {"model": EMBED_ID}, headers=key)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "permission_denied"
    assert EMBED_ID in refused.json()["error"]["message"]
    # Which model is the default for this only the worker knows.
    assert (await team.gateway.http.post(EMBED, json=INPUT, headers=key)).status_code == 403
    assert (await team.chat(team.add(models=("other",)))).status_code == 403


async def test_a_key_sees_only_the_models_that_it_may_use(team: Team) -> None:
    http, key = team.gateway.http, team.add(models=(EMBED_ID,))
    listed = (await http.get("/v1/models", headers=key)).json()["data"]
    assert [model["id"] for model in listed] == [EMBED_ID]
    assert (await http.get(f"/v1/models/{CHAT_ID}", headers=key)).status_code == 404


async def test_a_key_may_call_only_the_endpoints_that_it_names(team: Team) -> None:
    http, key = team.gateway.http, team.add(endpoints=("embeddings",))
    assert (await http.post(EMBED, json=INPUT, headers=key)).status_code == 200
    for path in (CHAT, "/v1/messages", "/v1/responses", "/chat/completions", "//v1/v1/messages"):
        refused = await http.post(path, json=BODY, headers=key)
        assert refused.status_code == 403, path
    refused = await team.chat(key)
    assert "Missing scopes: chat" in refused.json()["error"]["message"]


ADMINS_ONLY = [
    ("POST", "/v1/models/load", {"model": CHAT_ID}),
    ("POST", "/v1/models/unload", {"model": CHAT_ID}),
    ("POST", "/v1/models/pull", {"model": "x"}),
    ("DELETE", f"/v1/models/{CHAT_ID}", None),
    ("POST", "/v1/reload-embeddings", None),
    ("POST", "/api/pull", {"model": "x"}),
    ("DELETE", "/api/delete", {"model": "x"}),
    ("POST", "/api/create", {"model": "y", "from": "x"}),
    ("POST", "/api/copy", {"source": "x", "destination": "y"}),
    ("POST", "/api/generate", {"model": CHAT_ID, "keep_alive": 0}),
    ("GET", "/v1/admin/keys", None),
    ("GET", "/health/detailed", None),
    ("GET", "/metrics", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ADMINS_ONLY)
async def test_what_changes_the_server_or_shows_all_of_it_needs_an_admins_key(
    team: Team, method: str, path: str, body: Any
) -> None:
    async def status(key: dict[str, str]) -> int:
        reply = await team.gateway.http.request(method, path, json=body, headers=key)
        return reply.status_code

    assert await status(team.add()) == 403
    assert await status(team.admin) not in (401, 403)


async def test_a_key_for_monitoring_sees_metrics_and_nothing_else(team: Team) -> None:
    http, key = team.gateway.http, team.add(endpoints=("monitoring",))
    for path in ("/metrics", "/health/detailed", "/health/memory"):
        assert (await http.get(path, headers=key)).status_code == 200
    assert (await team.chat(key)).status_code == 403


async def test_the_key_of_the_setting_for_scrapers_may_read_metrics_and_nothing_else(
    worker: ScriptedWorker,
) -> None:
    settings = {"api_keys": "sk-all", "monitoring_api_key": "sk-scraper"}
    async with running_gateway([worker], **settings) as gateway:
        http, key = gateway.http, bearer("sk-scraper")
        assert (await http.get("/metrics", headers=key)).status_code == 200
        for path, body in ((CHAT, BODY), (EMBED, INPUT), ("/v1/models/load", {"model": "x"})):
            assert (await http.post(path, json=body, headers=key)).status_code == 403
        assert (await http.post(CHAT, json=BODY, headers=bearer("sk-all"))).status_code == 200


def test_each_route_belongs_to_a_group_or_is_open_to_every_key() -> None:
    app = create_app(GatewaySettings(_env_file=None))
    routes = [(m, r.path) for r in app.routes if isinstance(r, Route) for m in r.methods or ()]
    free = {path for method, path in routes if not need_of(method, path).group}
    assert free == {
        *("/health", "/health/live", "/health/ready", "/v1/usage"),
        *("/api", "/api/version", "/api/tags", "/api/ps", "/api/show"),
        *("/health/activity", "/v1/requests/cancel", "/openapi.json"),
        *("/v1/models", "/models", "/v1/models/{model_id:path}", "/models/{model_id:path}"),
    }
    # What is new under /v1/models is for admins unless it only reads.
    assert need_of("PUT", "/v1/models/x").group == ADMIN


async def test_todays_keys_keep_all_that_they_may_do(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# ours\n{hashlib.sha256(b'digest').hexdigest()} laptop\n")
    limited = bearer(add_key(path, Rights()).text)
    async with running_gateway([worker], api_keys_file=path, api_keys="plain") as gateway:
        for key in (bearer("digest"), bearer("plain")):
            load = {"model": CHAT_ID}
            done = await gateway.http.post("/v1/models/load", json=load, headers=key)
            assert done.status_code == 200
            assert (await gateway.http.get("/health/detailed", headers=key)).status_code == 200
        assert (await gateway.http.post(CHAT, json=BODY, headers=limited)).status_code == 200
    assert path.read_text().startswith("# ours\n")


async def test_a_wrong_line_gives_no_key_and_is_named_while_others_stay_valid(
    team: Team, caplog: pytest.LogCaptureFixture
) -> None:
    key = team.add()
    number = len(team.path.read_text().splitlines()) + 1
    with team.path.open("a") as file:
        file.write('{"id":"short"}\n')
    assert (await team.chat(key)).status_code == 200
    assert f"line {number}" in caplog.text


async def test_an_admin_adds_changes_rotates_and_revokes_keys_over_the_api(team: Team) -> None:
    http, admin = team.gateway.http, team.admin
    body = {"alias": "7b", "chat": {"tokens_per_day": 100}, "priority": 2}
    made = (await http.post("/v1/admin/keys", json=body, headers=admin)).json()
    assert made["chat"] == {"tokens_per_day": 100}
    assert not {"salt", "hash"} & set(made)
    place = f"/v1/admin/keys/{made['id']}"
    assert (await team.chat(bearer(made["key"]))).status_code == 200
    changed = await http.post(place, json={"endpoints": ["embeddings"]}, headers=admin)
    assert changed.json()["alias"] == "7b"
    assert (await team.chat(bearer(made["key"]))).status_code == 403
    await http.post(place, json={"endpoints": None}, headers=admin)
    rotated = (await http.post(f"{place}/rotate", headers=admin)).json()["key"]
    assert (await team.chat(bearer(made["key"]))).status_code == 401
    assert (await team.chat(bearer(rotated))).status_code == 200
    listed = (await http.get("/v1/admin/keys", headers=admin)).json()["data"]
    assert made["id"] in [one["id"] for one in listed]
    assert (await http.get(place, headers=admin)).json()["priority"] == 2
    assert (await http.delete(place, headers=admin)).json()["deleted"] is True
    assert (await team.chat(bearer(rotated))).status_code == 401
    assert (await http.delete(place, headers=admin)).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"endpoints": ["cat"]},
        {"alias": "a\nb"},
        {"chat": {"tokens_per_day": 0}},
        {"priority": 11},
        {"salt": "x"},
    ],
)
async def test_rights_that_make_no_sense_are_a_400(team: Team, body: Any) -> None:
    reply = await team.gateway.http.post("/v1/admin/keys", json=body, headers=team.admin)
    assert reply.status_code == 400, reply.text


async def test_without_a_file_keys_cannot_be_added_and_the_reply_says_what_to_set(
    worker: ScriptedWorker,
) -> None:
    async with running_gateway([worker], api_keys="plain") as gateway:
        reply = await gateway.http.post("/v1/admin/keys", json={}, headers=bearer("plain"))
    assert reply.status_code == 400
    assert "API_KEYS_FILE" in reply.json()["error"]["suggestions"][0]


async def test_a_key_sees_its_own_use_and_an_admin_all_by_model_and_day(team: Team) -> None:
    http, one, other = team.gateway.http, team.add(alias="one"), team.add(alias="other")
    for key in (one, one, other):
        await team.chat(key)
    await http.post(EMBED, json=INPUT, headers=one)
    own = (await http.get("/v1/usage", headers=one)).json()["data"]
    chat = next(row for row in own if row["kind"] == "chat")
    assert (chat["alias"], chat["model"], chat["requests"]) == ("one", CHAT_ID, 2)
    assert (chat["prompt_tokens"], chat["completion_tokens"]) == (2 * PROMPT_TOKENS, 8)
    assert {row["model"] for row in own} == {CHAT_ID, EMBED_ID}
    assert {row["alias"] for row in own} == {"one"}
    everything = (await http.get("/v1/usage", headers=team.admin)).json()["data"]
    assert {row["alias"] for row in everything} == {"one", "other"}
    table = await http.get("/v1/usage?format=csv", headers=team.admin)
    assert table.headers["content-type"].startswith("text/csv")
    assert table.text.splitlines()[0].startswith("date,key,alias,kind,model,requests")
    assert (await http.get("/v1/usage?from=x", headers=one)).status_code == 400


async def test_what_was_used_today_still_counts_after_a_restart(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    path = tmp_path / "keys.jsonl"
    key = bearer(add_key(path, Rights(chat=Limits(tokens_per_day=20))).text)
    for expected in ([200], [429]):
        async with running_gateway([worker], api_keys_file=path) as gateway:
            body = BODY | {"max_tokens": 8}
            replies = [await gateway.http.post(CHAT, json=body, headers=key)]
            assert [reply.status_code for reply in replies] == expected
    error = replies[0].json()["error"]
    assert (error["code"], error["type"]) == ("insufficient_quota", "insufficient_quota")
    # It is hours until tomorrow: SDKs need not try again.
    wait_s = int(replies[0].headers["retry-after"])
    assert (replies[0].headers.get("x-should-retry") == "false") is (wait_s > 120)


async def test_where_usage_cannot_be_kept_requests_go_on_and_limits_hold(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    key = bearer(add_key(path, Rights(chat=Limits(tokens_per_day=20))).text)
    nowhere = tmp_path / "no" / "usage"
    async with running_gateway([worker], api_keys_file=path, usage_file=nowhere) as gateway:
        body = BODY | {"max_tokens": 8}
        replies = [await gateway.http.post(CHAT, json=body, headers=key) for _ in range(2)]
        assert [reply.status_code for reply in replies] == [200, 429]
        assert (await gateway.http.get("/v1/usage", headers=key)).status_code == 503


async def test_a_key_is_found_among_many(worker: ScriptedWorker, tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    made = add_key(path, Rights())
    line = path.read_text()
    with path.open("a") as file:
        file.writelines(line.replace(made.record.id, f"k{n:011d}") for n in range(10_000))
    async with running_gateway([worker], api_keys_file=path) as gateway:
        assert len(gateway.services.keys.file().records) == 10_001
        assert (await gateway.http.post(CHAT, json=BODY, headers=bearer(made.text))).is_success
        wrong = made.text.replace(made.record.id, "k00000000007")
        # The copies have its secret; with another they are refused.
        reply = await gateway.http.post(CHAT, json=BODY, headers=bearer(wrong[:-1] + "!"))
        assert reply.status_code == 401


async def test_a_new_key_appears_in_no_log_reply_or_metric(
    team: Team, worker: ScriptedWorker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    text = add_key(team.path, Rights(alias="canary")).text
    secret = text.rpartition("-")[2]
    replies = [await team.chat(bearer(text)), await team.chat(bearer(text), stream=True)]
    worker.generate = raising(errors.BackendFailure("broken"))
    replies += [await team.chat(bearer(text)), await team.chat(bearer(text[:-1]))]
    replies += [await team.gateway.http.get("/metrics", headers=team.admin)]
    seen = "".join(reply.text + json.dumps(dict(reply.headers)) for reply in replies)
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpcore", "httpx"))]
    assert secret[:20] not in seen + "\n".join(ours)


async def test_two_changes_of_the_file_at_once_are_both_made(team: Team) -> None:
    made = await asyncio.gather(
        *(asyncio.to_thread(add_key, team.path, Rights(alias=str(n))) for n in range(8))
    )
    statuses = [(await team.chat(bearer(one.text))).status_code for one in made]
    assert statuses == [200] * 8
