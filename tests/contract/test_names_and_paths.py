"""Models and paths under the names that clients have for them."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import GatewaySettings
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, EMBED_ID

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
BODIES: dict[str, dict[str, Any]] = {
    CHAT: HELLO,
    "/v1/messages": HELLO | {"max_tokens": 2},
    "/v1/responses": {"input": "hi"},
    "/v1/completions": {"prompt": "hi"},
    "/tokenize": {"prompt": "hi"},
    "/apply-template": HELLO,
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", [f"{CHAT_ID}:latest", f"{CHAT_ID}.gguf", f"org/{CHAT_ID}", "gpt"])
async def test_other_names_of_a_chat_model_reach_it(
    worker: ScriptedWorker, path: str, name: str
) -> None:
    async with running_gateway([worker], model_aliases=f"gpt={CHAT_ID}, x = y") as gateway:
        reply = await gateway.http.post(path, json=BODIES[path] | {"model": name})
        assert reply.status_code == 200, reply.text
        assert worker.calls[-1].request.model == CHAT_ID


async def test_other_names_of_an_embedding_model_reach_it(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    body = {"input": "a", "model": f"org/{EMBED_ID}:latest"}
    assert (await gateway.http.post("/v1/embeddings", json=body)).status_code == 200
    assert worker.calls[-1].request.model == EMBED_ID


async def test_an_unknown_name_is_the_workers_to_refuse_or_the_default_as_set(
    worker: ScriptedWorker,
) -> None:
    body = HELLO | {"model": "gpt-4o-mini"}
    for setting, asked in (("refuse", "gpt-4o-mini"), ("default", "")):
        async with running_gateway([worker], unknown_models=setting) as gateway:
            await gateway.http.post(CHAT, json=body)
            assert worker.calls[-1].request.model == asked
            missing = await gateway.http.get("/v1/models/gpt-4o-mini")
            assert missing.status_code == 404
            unload = await gateway.http.post("/v1/models/unload", json={"model": "gpt-4o-mini"})
            assert unload.status_code == 404


async def test_a_model_is_shown_and_unloaded_under_its_other_names(
    gateway: RunningGateway,
) -> None:
    for path in ("/v1/models", "/models"):
        found = await gateway.http.get(f"{path}/org/{CHAT_ID}:latest")
        assert found.json()["id"] == CHAT_ID
    reply = await gateway.http.post("/v1/models/unload", json={"model": f"{CHAT_ID}.gguf"})
    assert reply.json()["model"] == CHAT_ID


@pytest.mark.parametrize("value", ["gpt", "gpt=", "=qwen"])
def test_an_alias_without_its_model_is_refused_at_the_start(value: str) -> None:
    with pytest.raises(ValidationError, match="is not alias=model"):
        GatewaySettings(_env_file=None, model_aliases=value)


async def test_the_list_of_models_has_anthropics_fields(gateway: RunningGateway) -> None:
    found = (await gateway.http.get("/v1/models")).json()
    assert found["has_more"] is False
    assert (found["first_id"], found["last_id"]) == (
        found["data"][0]["id"],
        found["data"][-1]["id"],
    )
    for model in found["data"]:
        assert (model["type"], model["display_name"]) == ("model", model["id"])
        assert model["created_at"].endswith("Z")
    assert (await gateway.http.get("/models")).json() == found


@pytest.mark.parametrize(
    "path",
    [
        "/v1/v1/chat/completions",
        "//v1/chat/completions",
        "/v1//chat/completions",
        f"{CHAT}/",
        "//v1//v1/chat//completions//",
        "/chat/completions/",
    ],
)
async def test_a_slash_or_a_version_too_many_is_answered(
    gateway: RunningGateway, path: str
) -> None:
    # As it stands: a client library would take the first slashes for a host's.
    reply = await gateway.http.post(f"{gateway.base_url}{path}", json=HELLO)
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/openai/v1/chat/completions", CHAT),
        ("/v1/chat/completion", CHAT),
        ("/v1/embedding", "/v1/embeddings"),
        ("/v1", "/v1/models"),
        ("/v2/chat", CHAT),
        ("/v2/embed", "/v1/embeddings"),
    ],
)
async def test_a_path_that_is_not_there_says_which_was_meant(
    gateway: RunningGateway, path: str, meant: str
) -> None:
    reply = await gateway.http.post(path, json={})
    assert reply.status_code == 404
    assert reply.json()["error"]["suggestions"] == [f"use {meant}"]


@pytest.mark.parametrize(
    "path",
    [
        "/" + "z" * 5000,
        "/v1/moderations",
        "/v1/images/generations",
        "/v1/audio/speech",
        "/v1/assistants",
        "/v1/threads",
        "/v1/messages/batches",
    ],
    ids=lambda path: path[:30],
)
async def test_a_path_like_none_says_nothing_more(gateway: RunningGateway, path: str) -> None:
    reply = await gateway.http.get(path)
    assert reply.status_code == 404
    message = reply.json()["error"]["message"]
    said = path if len(path) < 200 else f"{path[:200]}…"
    assert message == f"GET {said}: not found"
    assert "suggestions" not in reply.json()["error"]
