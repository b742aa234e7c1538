"""Responses, whole and streamed: the same items, every event in its order, and an end to each."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai.types.responses import (
    Response,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseReasoningItem,
    ResponseStreamEvent,
)
from pydantic import TypeAdapter

from common.errors import WorkerLost
from protos.y26hkx.v1 import chat_pb2
from tests.contract.responses import PATH, THINK_SPEAK_CALL, TIME, WEATHER, script, sdk
from tests.contract.running_gateway import RunningGateway, running_gateway, soon
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, delta, finished, queued, started

EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


async def frames(gateway: RunningGateway, **fields: Any) -> list[dict[str, Any]]:
    """The events of a stream, each checked: its name, its number and OpenAI's type for it."""
    reply = await gateway.http.post(PATH, json={"input": "hi", "stream": True} | fields)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream")
    found: list[dict[str, Any]] = []
    for frame in (f for f in reply.text.split("\n\n") if f and not f.startswith(":")):
        name, content = frame.split("\n")
        event = json.loads(content.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == len(found)
        EVENT.validate_python(event)
        found.append(event)
    return found


@pytest.mark.parametrize("stream", [False, True])
async def test_thoughts_words_and_calls_become_items_in_order(
    gateway: RunningGateway, worker: ScriptedWorker, stream: bool
) -> None:
    worker.generate = THINK_SPEAK_CALL
    fields: dict[str, Any] = {"tools": [WEATHER, TIME], "model": CHAT_ID}
    if stream:
        document = (await frames(gateway, **fields))[-1]["response"]
    else:
        document = (await gateway.http.post(PATH, json={"input": "hi"} | fields)).json()
    # Strict: every field that OpenAI's type demands is there, with its type.
    reply = Response.model_validate(document)
    thought, said, first, second = reply.output
    assert isinstance(thought, ResponseReasoningItem)
    assert [part.text for part in thought.content or ()] == ["They ask for two."]
    assert isinstance(said, ResponseOutputMessage)
    assert reply.output_text == "I look it up."
    assert isinstance(first, ResponseFunctionToolCall)
    assert (first.call_id, first.name, first.arguments) == ("call_a", "weather", '{"town": "Bern"}')
    assert isinstance(second, ResponseFunctionToolCall)
    assert (second.call_id, second.name, second.arguments) == ("call_b", "time", "{}")
    assert reply.status == "completed"
    assert reply.completed_at is not None
    assert {item["status"] for item in document["output"]} == {"completed"}
    assert len({item["id"] for item in document["output"]}) == 4
    assert document["usage"]["input_tokens_details"]["cached_tokens"] == 2
    assert (document["store"], document["background"]) == (True, False)


async def test_plain_and_streamed_replies_are_the_same(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = THINK_SPEAK_CALL
    plain = (await gateway.http.post(PATH, json={"input": "hi"})).json()
    streamed = (await frames(gateway))[-1]["response"]

    def timeless(document: dict[str, Any]) -> str:
        key = document["id"].removeprefix("resp_")
        kept = {k: v for k, v in document.items() if not k.endswith("_at")}
        return json.dumps(kept).replace(key, "")

    assert timeless(plain) == timeless(streamed)


async def test_a_stream_has_every_event_in_openais_order(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = THINK_SPEAK_CALL
    found = await frames(gateway)
    assert [event["type"].removeprefix("response.") for event in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert found[0]["response"]["status"] == "in_progress"
    assert found[0]["response"]["output"] == []
    assert [e["output_index"] for e in found if e["type"].endswith("item.done")] == [0, 1, 2, 3]
    done = [e["item"] for e in found if e["type"].endswith("item.done")]
    assert done == found[-1]["response"]["output"]


@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs_come_when_they_are_asked_for(
    gateway: RunningGateway, worker: ScriptedWorker, stream: bool
) -> None:
    def token(text: bytes) -> list[chat_pb2.TokenLogprob]:
        chosen = chat_pb2.Candidate(token=1, text=text, logprob=-0.5)
        return [chat_pb2.TokenLogprob(chosen=chosen, top=[chosen])]

    worker.generate = script(
        started(),
        delta(reasoning="hm", logprobs=token(b"hm")),
        delta("", logprobs=token(b"\xe4\xbd")),
        delta("你", logprobs=token(b"\xa0")),
        finished(3, reason="REASON_STOP"),
    )
    fields = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    if stream:
        found = await frames(gateway, **fields)
        (piece,) = (e for e in found if e["type"] == "response.output_text.delta")
        assert len(piece["logprobs"]) == 2
        document = found[-1]["response"]
    else:
        document = (await gateway.http.post(PATH, json={"input": "hi"} | fields)).json()
    assert worker.calls[-1].request.top_logprobs == 1
    logprobs = document["output"][1]["content"][0]["logprobs"]
    assert [entry["bytes"] for entry in logprobs] == [[0xE4, 0xBD], [0xA0]]
    assert logprobs[0]["top_logprobs"][0]["logprob"] == -0.5


async def test_a_cut_answer_is_incomplete_in_the_stream_too(gateway: RunningGateway) -> None:
    found = await frames(gateway, max_output_tokens=2)
    last = found[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["response"]["completed_at"] is None
    assert [item["status"] for item in last["response"]["output"]] == ["incomplete"]


async def test_silence_is_an_empty_message(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    worker.generate = script(started(), finished(0, reason="REASON_STOP"))
    found = await frames(gateway)
    (message,) = found[-1]["response"]["output"]
    assert message["content"][0]["text"] == ""


async def test_a_stream_that_breaks_tells_of_it_and_fails(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def breaks(_: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        yield delta("half")
        raise WorkerLost("the process died", retry_after_s=1)

    worker.generate = breaks
    *_, error, failed = await frames(gateway)
    assert (error["type"], error["code"], error["param"]) == ("error", "worker_lost", None)
    assert failed["type"] == "response.failed"
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"]["code"] == "server_error"
    assert failed["response"]["output"][0]["content"][0]["text"] == "half"
    assert failed["response"]["output"][0]["status"] == "incomplete"
    async with (
        sdk(gateway) as client,
        client.responses.stream(model=CHAT_ID, input="hi") as stream,
    ):
        assert [event.type async for event in stream][-2:] == ["error", "response.failed"]


async def test_a_failure_after_a_comment_still_begins_with_created(worker: ScriptedWorker) -> None:
    release = asyncio.Event()

    async def waits(_: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield queued(1)
        await release.wait()
        raise WorkerLost("the process died")

    worker.generate = waits
    async with running_gateway([worker], sse_comment_interval_s=0.05) as gateway:
        body = {"input": "hi", "stream": True}
        async with gateway.http.stream("POST", PATH, json=body) as reply:
            lines = reply.aiter_lines()
            assert (await anext(lines)).startswith(": queued")
            release.set()
            named = [line.removeprefix("event: ") async for line in lines if "event: " in line]
    assert named == ["response.created", "response.in_progress", "error", "response.failed"]


@pytest.mark.parametrize("stream", [False, True])
async def test_too_long_an_input_is_trimmed_unless_that_is_disabled(
    gateway: RunningGateway, worker: ScriptedWorker, stream: bool
) -> None:
    worker.generate = script(
        started(trimmed_tokens=5, trimmed_messages=1), finished(0, reason="REASON_STOP")
    )
    fields = {"input": "hi", "stream": stream}
    trimmed = await gateway.http.post(PATH, json=fields)
    assert trimmed.headers["x-trimmed-tokens"] == "5"
    refused = await gateway.http.post(PATH, json=fields | {"truncation": "disabled"})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_stops_the_generation(
    gateway: RunningGateway, worker: ScriptedWorker, stream: bool
) -> None:
    async def goes_on(_: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        await asyncio.Event().wait()

    worker.generate = goes_on
    content = json.dumps({"input": "hi", "stream": stream}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    async with gateway.raw() as (_, writer):
        writer.write(head.encode() + content)
        call = await worker.next_call()
    await soon(call.cancelled.wait())
