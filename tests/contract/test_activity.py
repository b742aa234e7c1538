"""What runs and waits, what happened to the models, and how a request is ended from outside."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.keys.administration import add_key
from gateway.keys.record import Rights
from protos.y26hkx.v1 import chat_pb2
from tests.contract.failures import BODY, CHAT, last_event, told
from tests.contract.running_gateway import RunningGateway, running_gateway, soon, until
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, delta, queued, started

ACTIVITY = "/health/activity"
CANCEL = "/v1/requests/cancel"
SECRET = "what I never told anybody"


async def activity(gateway: RunningGateway, **headers: str) -> dict[str, Any]:
    reply = await gateway.http.get(ACTIVITY, headers=headers)
    assert reply.status_code == 200
    found: dict[str, Any] = reply.json()
    return found


def ask(gateway: RunningGateway, *, id: str = "mine", **more: Any) -> asyncio.Task[httpx.Response]:
    body = BODY | {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 9} | more
    return asyncio.create_task(gateway.http.post(CHAT, json=body, headers={"x-request-id": id}))


async def endless(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
    """Two tokens of an answer that never ends."""
    yield started(cached_tokens=1)
    yield delta("a ")
    yield delta("b ")
    await asyncio.Event().wait()


async def waits(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
    yield queued(3)
    await asyncio.Event().wait()


async def test_a_running_request_is_listed_with_its_counts_and_no_text(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = endless
    asking = ask(gateway)
    running = gateway.services.pool.chat.generations
    await until(lambda: any(one.n_tokens == 2 for one in running))
    found = await activity(gateway)
    assert (found["n_running"], found["n_waiting"]) == (1, 0)
    (one,) = found["requests"]
    assert (one["request_id"], one["model"]) == ("mine", CHAT_ID)
    assert (one["state"], one["completion_tokens"]) == ("running", 2)
    assert one["cached_tokens"] == 1
    assert one["first_token_seconds"] <= one["seconds"]
    assert found["totals"]["completion_tokens"] == 2
    assert SECRET not in str(found)
    asking.cancel()
    await until(lambda: not list(running))
    assert (await activity(gateway))["requests"] == []


async def test_a_waiting_request_tells_its_place(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = waits
    asking = ask(gateway, stream=True)
    running = gateway.services.pool.chat.generations
    await until(lambda: any(one.call and one.call.queued.position for one in running))
    found = await activity(gateway)
    assert (found["n_running"], found["n_waiting"]) == (0, 1)
    (one,) = found["requests"]
    assert (one["state"], one["position"], one["waits_for"]) == ("waiting", 3, "queue")
    asking.cancel()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cancelled_request_ends_for_its_client_and_its_worker(
    gateway: RunningGateway, worker: ScriptedWorker, stream: bool
) -> None:
    worker.generate = endless
    asking = ask(gateway, stream=stream)
    await until(lambda: any(one.n_tokens == 2 for one in gateway.services.pool.chat.generations))
    reply = await gateway.http.post(CANCEL, json={"request_id": "mine"})
    assert reply.json() == {"request_id": "mine", "cancelled": 1}
    ended = await asking
    error = last_event(ended.text)["error"] if stream else told(ended)
    assert error["code"] == "cancelled"
    assert "[DONE]" not in ended.text
    await soon(worker.calls[0].cancelled.wait())


async def test_a_request_that_still_waits_can_be_cancelled(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = waits
    asking = ask(gateway)
    running = gateway.services.pool.chat.generations
    await until(lambda: any(one.call and one.call.queued.position for one in running))
    await gateway.http.post(CANCEL, json={"request_id": "mine"})
    assert told(await asking)["code"] == "cancelled"


async def test_to_cancel_what_does_not_run_changes_nothing(gateway: RunningGateway) -> None:
    reply = await gateway.http.post(CANCEL, json={"request_id": "nobody"})
    assert reply.json()["cancelled"] == 0
    for wrong in ({}, {"request_id": ""}, {"request_id": "x" * 65}, {"request_id": 5}):
        assert (await gateway.http.post(CANCEL, json=wrong)).status_code == 400


async def test_a_key_sees_and_ends_its_own_requests_and_an_admin_all(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    worker.generate = endless
    path = tmp_path / "keys.jsonl"
    one, two = ({"x-api-key": add_key(path, Rights()).text} for _ in range(2))
    admin = {"x-api-key": add_key(path, Rights(admin=True)).text}
    async with running_gateway([worker], api_keys_file=path) as gateway:
        headers = one | {"x-request-id": "mine"}
        asking = asyncio.create_task(gateway.http.post(CHAT, json=BODY, headers=headers))
        await until(
            lambda: any(each.n_tokens == 2 for each in gateway.services.pool.chat.generations)
        )
        assert (await activity(gateway, **two))["requests"] == []
        refused = await gateway.http.post(CANCEL, json={"request_id": "mine"}, headers=two)
        assert refused.json()["cancelled"] == 0
        assert len((await activity(gateway, **one))["requests"]) == 1
        assert len((await activity(gateway, **admin))["requests"]) == 1
        ended = await gateway.http.post(CANCEL, json={"request_id": "mine"}, headers=one)
        assert ended.json()["cancelled"] == 1
        await asking


async def test_what_happens_to_a_model_is_listed_the_latest_first(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    assert (await activity(gateway))["events"] == []
    endpoint = gateway.services.pool.chat.endpoints[0]
    model = worker.models()[0]
    model.counters.loads += 1
    model.counters.load_seconds_sum += 2
    model.resident_bytes = 1 << 20
    model.reductions.append("KV in q8_0")
    endpoint.hear_models([model])
    model.counters.crashes += 1
    model.failure = "signal 9 SIGKILL"
    endpoint.hear_models([model])
    latest, first = (await activity(gateway))["events"]
    assert (latest["event"], latest["model"], latest["detail"]) == (
        "crashed",
        CHAT_ID,
        "signal 9 SIGKILL",
    )
    assert (first["event"], first["seconds"], first["n_bytes"]) == ("loaded", 2.0, 1 << 20)
    assert first["detail"] == "KV in q8_0"
    assert first["worker"] == worker.address
