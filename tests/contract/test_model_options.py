"""What models.toml says of single models, as a gateway hears it: aliases, sampling, contexts."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.keys.administration import add_key
from gateway.keys.record import Rights
from protos.y26hkx.v1 import worker_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, EMBED_ID

CHAT = "/v1/chat/completions"
ALIAS, TAGGED = "gpt-4o", "mine:small"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
GENERATING: dict[str, dict[str, Any]] = {
    CHAT: HELLO,
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": HELLO | {"max_tokens": 2},
    "/api/chat": HELLO | {"stream": False},
    "/api/generate": {"prompt": "hi", "stream": False},
    "/infill": {"input_prefix": "a", "input_suffix": "b"},
}
OTHERS: dict[str, dict[str, Any]] = {
    "/tokenize": {"content": "hi"},
    "/apply-template": HELLO,
    "/v1/models/load": {},
    "/v1/models/unload": {},
}
EMBEDDING: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": "a"},
    "/api/embed": {"input": "a"},
    "/v1/rerank": {"query": "a", "documents": ["b"]},
}
SAMPLING = worker_pb2.SamplingDefaults(temperature=0.3, top_k=7, repetition_penalty=1.2)


@pytest.fixture
async def gateway(worker: ScriptedWorker) -> AsyncIterator[RunningGateway]:
    worker.facts = {"aliases": [ALIAS, TAGGED], "sampling": SAMPLING}
    worker.embed_facts = {"aliases": ["text-embedding-3-small"]}
    async with running_gateway([worker]) as running:
        yield running


async def test_an_alias_holds_in_every_api(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    asked = [(GENERATING | OTHERS, name, CHAT_ID) for name in (ALIAS, "GPT-4o:latest", TAGGED)]
    for bodies, name, id in (*asked, (EMBEDDING, "text-embedding-3-small", EMBED_ID)):
        for path, body in bodies.items():
            reply = await gateway.http.post(path, json=body | {"model": name})
            assert reply.status_code == 200, (path, reply.text)
            assert worker.calls[-1].request.model == id, path


async def test_aliases_are_listed_as_such(gateway: RunningGateway) -> None:
    found = {one["id"]: one for one in (await gateway.http.get("/v1/models")).json()["data"]}
    assert found[CHAT_ID]["aliases"] == [ALIAS, TAGGED]
    assert "alias_of" not in found[CHAT_ID]
    assert found[TAGGED]["alias_of"] == CHAT_ID
    assert found[TAGGED]["is_default"] is False
    shown = (await gateway.http.get(f"/v1/models/{ALIAS}")).json()
    assert shown["id"] == CHAT_ID
    tags = [one["name"] for one in (await gateway.http.get("/api/tags")).json()["models"]]
    assert {f"{CHAT_ID}:latest", f"{ALIAS}:latest", TAGGED} <= {*tags}


async def test_aliases_of_the_settings_are_listed_too(worker: ScriptedWorker) -> None:
    setting = f"fast={CHAT_ID}, lost=nowhere, {EMBED_ID}={CHAT_ID}"
    async with running_gateway([worker], model_aliases=setting) as gateway:
        found = (await gateway.http.get("/v1/models")).json()["data"]
        assert {one["id"]: one.get("alias_of") for one in found} == {
            CHAT_ID: None,
            EMBED_ID: None,
            "fast": CHAT_ID,
        }


async def test_the_id_of_a_model_is_never_anothers_alias(worker: ScriptedWorker) -> None:
    worker.facts = {"aliases": [EMBED_ID]}
    async with running_gateway([worker]) as gateway:
        body = {"model": EMBED_ID, "input": "a"}
        assert (await gateway.http.post("/v1/embeddings", json=body)).status_code == 200
        assert worker.calls[-1].request.model == EMBED_ID
        found = (await gateway.http.get("/v1/models")).json()["data"]
        assert [one["id"] for one in found] == [CHAT_ID, EMBED_ID]


async def test_a_key_may_name_models_by_their_aliases(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    worker.facts = {"aliases": [ALIAS]}
    path = tmp_path / "keys.jsonl"
    keys = {add_key(path, Rights(models=(name,))).text: name for name in (ALIAS, "other")}
    async with running_gateway([worker], api_keys_file=path) as gateway:
        for key, allowed in keys.items():
            gateway.http.headers["authorization"] = f"Bearer {key}"
            for name in (ALIAS, CHAT_ID):
                reply = await gateway.http.post(CHAT, json=HELLO | {"model": name})
                assert reply.status_code == (200 if allowed == ALIAS else 403), reply.text
            seen = (await gateway.http.get("/v1/models")).json()["data"]
            assert [one["id"] for one in seen] == ([CHAT_ID, ALIAS] if allowed == ALIAS else [])


async def test_what_a_request_does_not_say_is_as_the_model_has_it(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    options = {"temperature": 0.5, "top_k": 3}
    for path, body in GENERATING.items():
        for name in ({"model": CHAT_ID}, {"model": ALIAS}, {}):
            if not name and path in ("/v1/messages", "/api/chat", "/api/generate"):
                continue  # These APIs want a name.
            await gateway.http.post(path, json=body | name)
            sampling = worker.calls[-1].request.sampling
            assert sampling.temperature == pytest.approx(0.3), path
            assert (sampling.top_k, sampling.top_p) == (7, pytest.approx(0.9)), path
            assert sampling.repetition_penalty == pytest.approx(1.2), path
        own = {"options": options} if path.startswith("/api") else options
        await gateway.http.post(path, json=body | own | {"model": CHAT_ID})
        sampling = worker.calls[-1].request.sampling
        assert (sampling.temperature, sampling.top_k) == (pytest.approx(0.5), 3), path


async def test_the_longest_answer_may_be_the_models(worker: ScriptedWorker) -> None:
    worker.facts = {"sampling": worker_pb2.SamplingDefaults(max_tokens=9)}
    async with running_gateway([worker]) as gateway:
        for path, body in GENERATING.items():
            await gateway.http.post(path, json=body | {"model": CHAT_ID})
            # Anthropic's API has no default.
            expected = 2 if path == "/v1/messages" else 9
            assert worker.calls[-1].request.max_tokens == expected


async def test_a_load_may_choose_the_context_and_be_forced(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    body = {"model": ALIAS, "context_length": 8192, "force": True}
    assert (await gateway.http.post("/v1/models/load", json=body)).status_code == 200
    asked = worker.calls[-1].request
    assert (asked.context_length, asked.force) == (8192, True)
    refused = await gateway.http.post("/v1/models/load", json=body | {"context_length": 1})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "context_length")
