"""Models on request over HTTP: load, unload, keep_alive, and what is shown of them."""

import asyncio
import time
from collections.abc import AsyncIterator

import orjson
import pytest

from common.errors import BackendLoadFailed
from protos.y26hkx.v1 import worker_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, EMBED_ID, loading

LOAD, UNLOAD = "/v1/models/load", "/v1/models/unload"
MESSAGES = [{"role": "user", "content": "hi"}]
ROUTES: dict[str, dict[str, object]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 3, "model": CHAT_ID},
    "/v1/messages/count_tokens": {"messages": MESSAGES, "model": CHAT_ID},
    "/v1/embeddings": {"input": "hi"},
    "/v1/rerank": {"query": "hi", "documents": ["a"]},
    "/v1/score": {"text_1": "hi", "text_2": "a"},
    "/tokenize": {"prompt": "hi"},
    "/detokenize": {"tokens": [1]},
    "/apply-template": {"messages": MESSAGES},
    LOAD: {"model": CHAT_ID},
}
TOKENIZE_FOR_EMBEDDING = {"prompt": "hi", "model": EMBED_ID}


@pytest.mark.parametrize("path", ROUTES)
async def test_every_route_that_loads_a_model_takes_keep_alive(
    gateway: RunningGateway, worker: ScriptedWorker, path: str
) -> None:
    for given, seconds in (("1h30m", 5400), (-1, -1), (0, 0)):
        reply = await gateway.http.post(path, json=ROUTES[path] | {"keep_alive": given})
        assert reply.status_code == 200, reply.text
        assert worker.calls[-1].request.keep_alive_s == seconds
    assert (await gateway.http.post(path, json=ROUTES[path])).status_code == 200
    assert not worker.calls[-1].request.HasField("keep_alive_s")


async def test_a_text_is_tokenized_for_embedding_with_keep_alive_too(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    body = TOKENIZE_FOR_EMBEDDING | {"keep_alive": "5m"}
    assert (await gateway.http.post("/tokenize", json=body)).status_code == 200
    assert worker.calls[-1].request.keep_alive_s == 300


@pytest.mark.parametrize("path", ROUTES)
async def test_what_is_no_time_is_refused_by_name_everywhere(
    gateway: RunningGateway, path: str
) -> None:
    reply = await gateway.http.post(path, json=ROUTES[path] | {"keep_alive": "soon"})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "keep_alive"
    assert "1h30m" in reply.json()["error"]["message"]


async def test_a_load_answers_with_what_is_loaded_then(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.facts = {
        "resident_bytes": 10,
        "context_length": 2560,
        "pinned": True,
        "reductions": ["a smaller context"],
        "memory": worker_pb2.ModelMemory(weights_bytes=7),
    }
    reply = (await gateway.http.post(LOAD, json={"model": CHAT_ID.upper()})).json()
    assert reply.pop("seconds") >= 0
    assert reply == {
        "model": CHAT_ID,
        "state": "ready",
        "n_workers": 2,
        "backend": "",
        "chat_template": None,
        "context_length": 2560,
        "resident_bytes": 10,
        "memory": {"weights_bytes": 7},
        "pinned": True,
        "expires_in_seconds": None,
        "reductions": ["a smaller context"],
        "served_by": None,
    }


async def test_a_load_tells_its_progress_as_events(gateway: RunningGateway) -> None:
    reply = await gateway.http.post(LOAD, json={"model": CHAT_ID, "stream": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    *events, done = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    assert done == "[DONE]"
    *before, last = [orjson.loads(event) for event in events]
    assert before == [
        {"model": CHAT_ID, "state": "loading", "fraction": 0.1, "stage": "starting"},
        {"model": CHAT_ID, "state": "loading", "fraction": 0.5, "stage": "weights"},
    ]
    assert (last["state"], last["n_workers"]) == ("ready", 2)


async def test_a_load_that_fails_ends_its_events_with_an_error(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def fails(
        request: worker_pb2.LoadModelRequest,
    ) -> AsyncIterator[worker_pb2.LoadProgress]:
        yield loading(0.1, "weights")
        await told.wait()
        raise BackendLoadFailed("no", metadata={"backend": "script"})

    worker.load, told = fails, asyncio.Event()
    body = {"model": CHAT_ID, "stream": True}
    async with gateway.http.stream("POST", LOAD, json=body) as reply:
        lines = []
        async for line in reply.aiter_lines():
            told.set()
            lines.append(line)
    assert orjson.loads(lines[-2].removeprefix("data: "))["error"]["code"] == "BACKEND_LOAD_FAILED"
    plain = await gateway.http.post(LOAD, json={"model": CHAT_ID})
    assert (plain.status_code, plain.json()["error"]["backend"]) == (503, "script")


async def test_the_progress_of_several_workers_is_that_of_the_last() -> None:
    async def slowly(
        request: worker_pb2.LoadModelRequest,
    ) -> AsyncIterator[worker_pb2.LoadProgress]:
        yield loading(0.2, "weights")
        await others.arrived.wait()
        yield worker_pb2.LoadProgress(state=worker_pb2.MODEL_STATE_READY, fraction=1)

    others, slow = ScriptedWorker(), ScriptedWorker(load=slowly)
    for worker in (others, slow):
        await worker.start()
    try:
        async with running_gateway([others, slow]) as gateway:
            reply = await gateway.http.post(LOAD, json={"model": CHAT_ID, "stream": True})
    finally:
        for worker in (others, slow):
            await worker.stop()
    fractions = [
        orjson.loads(line.removeprefix("data: ")).get("fraction", 1)
        for line in reply.text.split("\n\n")
        if line.startswith("data: {")
    ]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


@pytest.mark.parametrize("force", [None, False, True])
async def test_an_unload_tells_what_it_gave_back_and_whom_it_waited_for(
    gateway: RunningGateway, worker: ScriptedWorker, force: bool | None
) -> None:
    body = {"model": CHAT_ID} | ({} if force is None else {"force": force})
    reply = await gateway.http.post(UNLOAD, json=body)
    # It is asked as a chat and as an embedding worker.
    assert reply.json() == {
        "model": CHAT_ID,
        "state": "unloaded",
        "freed_bytes": 200,
        "regained_bytes": -10,
        "waited_for": 0 if force else 4,
        "ended": 4 if force else 0,
    }
    assert {call.request.force for call in worker.calls} == {bool(force)}


@pytest.mark.parametrize("path", [LOAD, UNLOAD])
async def test_load_and_unload_need_the_name_of_a_model_that_exists(
    gateway: RunningGateway, path: str
) -> None:
    for body in ({}, {"model": ""}, {"model": None}, {"model": 5}):
        reply = await gateway.http.post(path, json=body)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "model")
    reply = await gateway.http.post(path, json={"model": "nope"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (404, "model")


async def test_a_model_is_shown_with_its_times_which_run_on(worker: ScriptedWorker) -> None:
    worker.facts = {
        "idle_s": 100.0,
        "expires_in_s": 200.0,
        "served_by": "smaller",
        "memory": worker_pb2.ModelMemory(kv_bytes=5, caches_bytes=6),
    }
    async with running_gateway([worker]) as gateway:
        seen = [(await gateway.http.get(f"/v1/models/{CHAT_ID}")).json() for _ in range(2)]
    assert 100 < seen[0]["idle_seconds"] < seen[1]["idle_seconds"] < 130
    assert 200 > seen[0]["expires_in_seconds"] > seen[1]["expires_in_seconds"] > 170
    assert seen[0]["last_used"] == pytest.approx(time.time() - 100, abs=30)
    assert seen[0]["memory"] == {"kv_bytes": 5, "caches_bytes": 6}
    assert (seen[0]["pinned"], seen[0]["served_by"]) == (False, "smaller")


async def test_a_model_that_loads_is_shown_with_its_progress(worker: ScriptedWorker) -> None:
    worker.facts = {"load_fraction": 0.25, "load_stage": "weights"}
    worker.facts["state"] = worker_pb2.MODEL_STATE_LOADING
    async with running_gateway([worker]) as gateway:
        seen = (await gateway.http.get(f"/v1/models/{CHAT_ID}")).json()
    assert (seen["load_fraction"], seen["load_stage"]) == (0.25, "weights")


async def test_one_model_is_found_in_whatever_case_it_is_named(gateway: RunningGateway) -> None:
    found = (await gateway.http.get(f"/v1/models/{CHAT_ID.upper()}")).json()
    assert found["id"] == CHAT_ID != CHAT_ID.upper()


async def test_a_name_of_a_chat_and_an_embedding_model_is_listed_for_each(
    worker: ScriptedWorker,
) -> None:
    async with (
        ScriptedWorker(chat_ids=(EMBED_ID,)) as other,
        running_gateway([other], embed_workers=worker.address) as gateway,
    ):
        listed = (await gateway.http.get("/v1/models")).json()["data"]
    found = sorted(model["capability"] for model in listed if model["id"] == EMBED_ID)
    assert found == ["chat", "embed"]
