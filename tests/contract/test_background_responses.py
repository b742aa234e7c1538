"""Responses in the background: they need no client, and can be followed, resumed and cancelled."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protos.y26hkx.v1 import chat_pb2
from tests.contract.responses import PATH, sdk
from tests.contract.running_gateway import RunningGateway, running_gateway, soon, ticks
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import delta, finished, started

BODY = {"input": "hi", "background": True}
ENDED = ("completed", "incomplete", "failed", "cancelled")


class Steps:
    """A generation that says a word each time it is told to, and ends after three."""

    def __init__(self) -> None:
        self.go_on = asyncio.Semaphore(0)

    async def __call__(
        self, request: chat_pb2.GenerateRequest
    ) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        for word in ("one ", "two ", "three"):
            await self.go_on.acquire()
            yield delta(word)
        yield finished(3, reason="REASON_STOP")

    def finish(self) -> None:
        for _ in range(3):
            self.go_on.release()


@pytest.fixture
def steps(worker: ScriptedWorker) -> Steps:
    worker.generate = Steps()
    return worker.generate


async def begin(gateway: RunningGateway, **fields: Any) -> dict[str, Any]:
    reply = await gateway.http.post(PATH, json=BODY | fields)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


async def polled(gateway: RunningGateway, id: str, *statuses: str) -> dict[str, Any]:
    """The response once it has one of the statuses."""
    async with asyncio.timeout(10):
        async for _ in ticks():
            found: dict[str, Any] = (await gateway.http.get(f"{PATH}/{id}")).json()
            if found["status"] in statuses:
                return found
    raise AssertionError


async def test_a_response_is_made_without_its_client_and_polled(
    gateway: RunningGateway, steps: Steps
) -> None:
    first = await begin(gateway)
    assert (first["status"], first["background"], first["output"]) == ("queued", True, [])
    assert await polled(gateway, first["id"], "in_progress")
    steps.finish()
    whole = await polled(gateway, first["id"], *ENDED)
    assert whole["status"] == "completed"
    assert whole["output"][0]["content"][0]["text"] == "one two three"
    assert whole["usage"]["output_tokens"] == 3


async def test_the_sdk_polls_and_goes_on_from_it(
    gateway: RunningGateway, worker: ScriptedWorker, steps: Steps
) -> None:
    steps.finish()
    async with sdk(gateway) as client:
        response = await client.responses.create(model="", input="hi", background=True)
        while response.status in ("queued", "in_progress"):
            response = await client.responses.retrieve(response.id)
        steps.finish()
        second = await client.responses.create(
            model="", input="more", previous_response_id=response.id
        )
    assert second.output_text == "one two three"
    assert len(worker.calls[-1].request.conversation.messages) == 3


async def test_a_stream_is_resumed_where_it_broke_off(
    gateway: RunningGateway, steps: Steps
) -> None:
    async with sdk(gateway) as client:
        stream = await client.responses.create(model="", input="hi", background=True, stream=True)
        steps.go_on.release()
        seen = []
        async for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        first: Any = seen[0]
        steps.finish()
        resumed = await client.responses.retrieve(
            first.response.id, stream=True, starting_after=seen[-1].sequence_number
        )
        rest = [event async for event in resumed]
        types = [event.type for event in seen]
        assert types[:3] == ["response.created", "response.queued", "response.in_progress"]
        assert [event.sequence_number for event in [*seen, *rest]] == [*range(len(seen + rest))]
        last: Any = rest[-1]
        assert last.type == "response.completed"
        assert last.response.output_text == "one two three"
        await polled(gateway, last.response.id, "completed")
        async with asyncio.timeout(10):
            again = await client.responses.retrieve(first.response.id, stream=True)
            assert [event.type for event in [*seen, *rest]] == [e.type async for e in again]


async def test_a_response_that_is_cancelled_stops_its_generation(
    gateway: RunningGateway, worker: ScriptedWorker, steps: Steps
) -> None:
    first = await begin(gateway)
    steps.go_on.release()
    await polled(gateway, first["id"], "in_progress")
    call = await worker.next_call()
    path = f"{PATH}/{first['id']}"
    cancelled = await gateway.http.post(f"{path}/cancel")
    assert cancelled.status_code == 200, cancelled.text
    assert cancelled.json()["status"] == "cancelled"
    await soon(call.cancelled.wait())
    assert (await gateway.http.post(f"{path}/cancel")).json() == cancelled.json()
    assert (await gateway.http.get(path)).json() == cancelled.json()


async def test_a_response_that_is_deleted_stops_too(
    gateway: RunningGateway, worker: ScriptedWorker, steps: Steps
) -> None:
    first = await begin(gateway, stream=False)
    await polled(gateway, first["id"], "in_progress")
    call = await worker.next_call()
    assert (await gateway.http.delete(f"{PATH}/{first['id']}")).json()["deleted"] is True
    await soon(call.cancelled.wait())
    assert (await gateway.http.get(f"{PATH}/{first['id']}")).status_code == 404


async def test_a_conversation_grows_only_by_whole_responses(
    gateway: RunningGateway, worker: ScriptedWorker, steps: Steps
) -> None:
    conversation = (await gateway.http.post("/v1/conversations", json={})).json()["id"]
    cut = await begin(gateway, input="cut", conversation=conversation)
    await polled(gateway, cut["id"], "in_progress")
    await gateway.http.post(f"{PATH}/{cut['id']}/cancel")
    # Until then it would take the words that are meant for the next one.
    await soon((await worker.next_call()).cancelled.wait())
    for text in ("a", "b"):
        steps.finish()
        response = await begin(gateway, input=text, conversation=conversation)
        await polled(gateway, response["id"], "completed")
    request = worker.calls[-1].request
    answer = "one two three"
    assert [m.content for m in request.conversation.messages] == ["a", answer, "b"]


async def test_what_is_not_complete_cannot_be_continued(
    gateway: RunningGateway, steps: Steps
) -> None:
    first = await begin(gateway)
    await polled(gateway, first["id"], "in_progress")
    reply = await gateway.http.post(
        PATH, json={"input": "and?", "previous_response_id": first["id"]}
    )
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "previous_response_id"


async def test_a_failure_is_a_status_and_the_last_event(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def break_off(_: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        yield delta("x")

    worker.generate = break_off
    first = await begin(gateway)
    failed = await polled(gateway, first["id"], "failed")
    assert failed["error"]["code"] == "server_error"
    assert failed["output"][0]["status"] == "incomplete"
    reply = await gateway.http.post(PATH, json=BODY | {"stream": True})
    assert "event: error" in reply.text
    assert reply.text.rstrip().split("event: ")[-1].startswith("response.failed")


async def test_responses_in_progress_are_bounded(worker: ScriptedWorker, steps: Steps) -> None:
    keys = {"api_keys": "ann,bob", "max_in_flight_per_key": 1, "max_background_responses": 2}
    async with running_gateway([worker], **keys) as gateway:
        ann, bob = ({"authorization": f"Bearer {key}"} for key in ("ann", "bob"))
        first = await gateway.http.post(PATH, json=BODY, headers=ann)
        assert first.status_code == 200
        second = await gateway.http.post(PATH, json=BODY, headers=ann)
        assert second.status_code == 429
        assert second.json()["error"]["code"] == "rate_limit_exceeded"
        path = f"{PATH}/{first.json()['id']}"
        for method, ending in (("GET", ""), ("GET", "?stream=true"), ("POST", "/cancel")):
            reply = await gateway.http.request(method, f"{path}{ending}", headers=bob)
            assert reply.status_code == 404, "it is Ann's"
        assert (await gateway.http.post(PATH, json=BODY, headers=bob)).status_code == 200
    async with running_gateway([worker], max_background_responses=1) as gateway:
        await begin(gateway)
        full = await gateway.http.post(PATH, json=BODY)
        assert full.status_code == 429
        assert full.json()["error"]["code"] == "overloaded"


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"store": False}, "background"), ({"prompt": {"id": "p"}}, "prompt")],
)
async def test_what_cannot_be_done_in_the_background_is_named(
    gateway: RunningGateway, fields: dict[str, Any], param: str
) -> None:
    reply = await gateway.http.post(PATH, json=BODY | fields)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


async def test_what_was_not_streamed_has_no_events(gateway: RunningGateway) -> None:
    first = (await gateway.http.post(PATH, json={"input": "hi"})).json()
    for query in ("?stream=true", "?stream=true&starting_after=x"):
        reply = await gateway.http.get(f"{PATH}/{first['id']}{query}")
        assert reply.status_code == 400


async def test_a_gateway_that_stops_ends_and_stores_them(
    worker: ScriptedWorker, steps: Steps, tmp_path: Path
) -> None:
    async with running_gateway([worker], responses_store_path=tmp_path) as gateway:
        first = await begin(gateway)
        steps.go_on.release()
        await polled(gateway, first["id"], "in_progress")
        call = await worker.next_call()
    await soon(call.cancelled.wait())
    async with running_gateway([worker], responses_store_path=tmp_path) as gateway:
        found = await polled(gateway, first["id"], *ENDED)
        assert found["status"] == "failed"


async def test_what_was_lost_with_another_gateway_has_failed(
    worker: ScriptedWorker, steps: Steps, tmp_path: Path
) -> None:
    settings: Any = {"responses_store_path": tmp_path}
    async with running_gateway([worker], **settings) as maker:
        made = await begin(maker)
        await polled(maker, made["id"], "in_progress")
        async with running_gateway([worker], **settings, background_timeout_s=0.5) as other:
            found = await polled(other, made["id"], *ENDED)
            assert (found["status"], found["error"]["code"]) == ("failed", "server_error")
