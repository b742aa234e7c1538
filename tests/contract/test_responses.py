"""OpenAI's Responses API, as its own SDK sees it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai.types.responses import (
    Response,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseReasoningItem,
    ResponseStreamEvent,
)
from pydantic import BaseModel, TypeAdapter

from protos.errors import InvalidRequest, WorkerLost
from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway, soon
from tests.contract.scripted_worker import (
    CHAT_ID,
    PROMPT_TOKENS,
    Generate,
    ScriptedWorker,
    delta,
    finished,
    queued,
    started,
)

PATH = "/v1/responses"
EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "of a town",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    "strict": True,
}
TIME: Any = {"type": "function", "name": "time", "parameters": None, "strict": None}
CALL: Any = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}


class Town(BaseModel):
    name: str
    people: int


def script(*events: chat_pb2.GenerateEvent) -> Generate:
    async def generate(_: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        for event in events:
            yield event

    return generate


def call_piece(
    index: int, arguments: str, call_id: str = "", name: str = ""
) -> chat_pb2.GenerateEvent:
    piece = chat_pb2.ToolCallDelta(index=index, id=call_id, name=name, arguments=arguments)
    return delta(tool_calls=[piece])


THINK_SPEAK_CALL = script(
    started(),
    delta(reasoning="They ask "),
    delta(reasoning="for two."),
    delta("I look "),
    delta("it up."),
    call_piece(0, "", "call_a", "weather"),
    call_piece(0, '{"town": '),
    call_piece(0, '"Bern"}'),
    call_piece(1, "{}", "call_b", "time"),
    finished(9, reason="REASON_TOOL_CALLS", cached=2),
)


@asynccontextmanager
async def sdk(gateway: RunningGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    base_url = f"{gateway.base_url}/v1"
    async with openai.AsyncOpenAI(base_url=base_url, api_key="any", max_retries=0) as client:
        yield client


async def conversation(
    gateway: RunningGateway, worker: ScriptedWorker, **fields: Any
) -> chat_pb2.Conversation:
    """What reaches the worker of a request."""
    reply = await gateway.http.post(PATH, json={"input": "hi"} | fields)
    assert reply.status_code == 200, reply.text
    found: chat_pb2.Conversation = worker.calls[-1].request.conversation
    return found


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


async def test_the_sdk_gets_a_whole_response(gateway: RunningGateway) -> None:
    async with sdk(gateway) as client:
        reply = await client.responses.create(
            model=CHAT_ID,
            input="count",
            instructions="be brief",
            metadata={"who": "me"},
            temperature=0.5,
            max_output_tokens=3,
        )
    assert reply.output_text == "0 1 2 "
    assert reply.id.startswith("resp_")
    assert reply.model == CHAT_ID
    assert reply.status == "incomplete"
    assert reply.incomplete_details is not None
    assert reply.incomplete_details.reason == "max_output_tokens"
    assert reply.usage is not None
    assert reply.usage.total_tokens == PROMPT_TOKENS + 3
    assert (reply.instructions, reply.metadata, reply.temperature, reply.max_output_tokens) == (
        "be brief",
        {"who": "me"},
        0.5,
        3,
    )
    assert (reply.error, reply.tools, reply.tool_choice) == (None, [], "auto")


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
    assert (document["store"], document["background"]) == (False, False)


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


async def test_the_sdks_accumulator_follows_a_stream(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = THINK_SPEAK_CALL
    snapshots = []
    async with (
        sdk(gateway) as client,
        client.responses.stream(model=CHAT_ID, input="hi", tools=[WEATHER, TIME]) as stream,
    ):
        async for event in stream:
            if event.type == "response.output_text.delta":
                snapshots.append(event.snapshot)
            if event.type == "response.function_call_arguments.delta":
                snapshots.append(event.snapshot)
        final = await stream.get_final_response()
    assert snapshots == ["I look ", "I look it up.", '{"town": ', '{"town": "Bern"}', "{}"]
    assert final.output_text == "I look it up."
    call = final.output[2]
    assert call.type == "function_call"
    assert call.parsed_arguments == {"town": "Bern"}


async def test_structured_output_is_parsed_plain_and_streamed(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = script(
        started(),
        delta('{"name": "Bern", '),
        delta('"people": 134000}'),
        finished(2, reason="REASON_STOP"),
    )
    async with sdk(gateway) as client:
        plain = await client.responses.parse(model=CHAT_ID, input="hi", text_format=Town)
        async with client.responses.stream(model=CHAT_ID, input="hi", text_format=Town) as stream:
            streamed = await stream.get_final_response()
    assert plain.output_parsed == streamed.output_parsed == Town(name="Bern", people=134000)
    schema = json.loads(worker.calls[0].request.constraint.json_schema)
    assert set(schema["properties"]) == {"name", "people"}
    assert worker.calls[0].request == worker.calls[1].request


async def test_a_tool_loop_sends_the_models_own_items_back(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = THINK_SPEAK_CALL
    items: Any = [{"role": "user", "content": "Bern?"}]
    async with sdk(gateway) as client:
        first = await client.responses.create(model=CHAT_ID, input=items, tools=[WEATHER, TIME])
        items += first.output
        for item in first.output:
            if item.type == "function_call":
                output = f"{item.name} is fine"
                items.append(
                    {"type": "function_call_output", "call_id": item.call_id, "output": output}
                )
        await client.responses.create(model=CHAT_ID, input=items, tools=[WEATHER, TIME])
    user, assistant, *outputs = worker.calls[-1].request.conversation.messages
    assert (user.role, user.content) == ("user", "Bern?")
    assert (assistant.reasoning, assistant.content) == ("They ask for two.", "I look it up.")
    assert [call.id for call in assistant.tool_calls] == ["call_a", "call_b"]
    assert assistant.tool_calls[0].arguments == '{"town": "Bern"}'
    assert [(m.role, m.tool_call_id, m.content) for m in outputs] == [
        ("tool", "call_a", "weather is fine"),
        ("tool", "call_b", "time is fine"),
    ]


async def test_items_become_messages(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    items: list[dict[str, Any]] = [
        {"role": "developer", "content": "be kind"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}] * 2},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "assistant", "content": "well, yes"},
        {"role": "user", "content": "then?"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "AAAA"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]},
        CALL,
        CALL | {"call_id": "call_2"},
        {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": [{"type": "input_text", "text": "sun"}],
        },
        {"type": "function_call_output", "call_id": "call_2", "output": "rain"},
    ]
    found = await conversation(gateway, worker, instructions="be brief", input=items)
    said = [(m.role, m.content, m.reasoning, len(m.tool_calls)) for m in found.messages]
    assert said == [
        ("system", "be brief", "", 0),
        ("developer", "be kind", "", 0),
        ("user", "aa", "", 0),
        ("assistant", "no", "", 0),
        ("assistant", "well, yes", "", 0),
        ("user", "then?", "", 0),
        ("assistant", "", "so", 2),
        ("tool", "sun", "", 0),
        ("tool", "rain", "", 0),
    ]


@pytest.mark.parametrize(
    ("choice", "mode", "name", "offered"),
    [
        (None, "MODE_UNSPECIFIED", "", ["weather", "time"]),
        ("none", "MODE_NONE", "", ["weather", "time"]),
        ("required", "MODE_REQUIRED", "", ["weather", "time"]),
        ({"type": "function", "name": "time"}, "MODE_NAMED", "time", ["weather", "time"]),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "time"}],
            },
            "MODE_REQUIRED",
            "",
            ["time"],
        ),
    ],
    ids=["unset", "none", "required", "named", "allowed"],
)
async def test_tools_and_their_choice_reach_the_worker(
    gateway: RunningGateway,
    worker: ScriptedWorker,
    choice: Any,
    mode: str,
    name: str,
    offered: list[str],
) -> None:
    fields = {"tools": [WEATHER, TIME], "tool_choice": choice, "parallel_tool_calls": False}
    found = await conversation(gateway, worker, **fields)
    assert [tool.name for tool in found.tools] == offered
    assert (chat_pb2.ToolChoice.Mode.Name(found.tool_choice.mode), found.tool_choice.name) == (
        mode,
        name,
    )
    assert found.HasField("parallel_tool_calls")
    assert not found.parallel_tool_calls
    if choice is None:
        assert json.loads(found.tools[0].parameters_json) == WEATHER["parameters"]
        assert (found.tools[0].strict, found.tools[1].strict) == (True, False)


async def test_effort_reaches_the_template(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    for effort, kwargs in (
        ("none", {"enable_thinking": False}),
        ("minimal", {"enable_thinking": False}),
        ("high", {"reasoning_effort": "high"}),
    ):
        found = await conversation(gateway, worker, reasoning={"effort": effort})
        assert dict(found.template_kwargs) == kwargs


async def test_sampling_and_local_extras_reach_the_worker(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    extras = {"top_k": 5, "seed": 7, "stop": ["x"], "keep_alive": "5m", "max_output_tokens": 9}
    await conversation(gateway, worker, **extras, text={"format": {"type": "json_object"}})
    request = worker.calls[-1].request
    assert (request.sampling.top_k, request.sampling.seed, list(request.stop)) == (5, 7, ["x"])
    assert (request.keep_alive_s, request.max_tokens, request.n) == (300, 9, 1)
    assert request.constraint.json_object


async def test_what_changes_nothing_is_named(gateway: RunningGateway) -> None:
    reply = await gateway.http.post(
        PATH,
        json={
            "input": "hi",
            "store": True,
            "metadata": {"a": "b"},
            "text": {"verbosity": "low"},
            "reasoning": {"summary": "auto"},
            "include": ["reasoning.encrypted_content"],
            "user": "me",
        },
    )
    names = "include, reasoning.summary, store, text.verbosity, user"
    assert reply.headers["x-ignored-parameters"] == names
    assert reply.json()["store"] is False


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


async def test_an_early_failure_keeps_its_status(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def refuses(_: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        raise WorkerLost("the process died")
        yield

    worker.generate = refuses
    async with sdk(gateway) as client:
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError) as caught:
                await client.responses.create(model=CHAT_ID, input="hi", stream=stream)
            assert caught.value.status_code == 503


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
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    async with gateway.raw() as (_, writer):
        writer.write(head.encode() + content)
        call = await worker.next_call()
    await soon(call.cancelled.wait())


def said(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": ["hi"]}, "input[0]"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "wizard", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": "x", "mood": 1}]}, "input[0].mood"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0]"),
        ({"input": [{"type": 5}]}, "input[0]"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"id": "msg_1"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": "x"}] * 1025}, "input"),
        ({"input": said({"type": "input_text", "text": 5})}, "input[0].content[0].text"),
        (
            {"input": said({"type": "input_image", "image_url": "http://x", "detail": "auto"})},
            "input[0].content[0].type",
        ),
        (
            {"input": said({"type": "input_file", "file_id": "file_1"})},
            "input[0].content[0].type",
        ),
        ({"input": [CALL | {"arguments": {}}]}, "input[0].arguments"),
        (
            {"input": [{"type": "function_call_output", "call_id": "x", "output": "y"}]},
            "input[0].call_id",
        ),
        ({"instructions": 5}, "instructions"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": True}, "max_output_tokens"),
        ({"temperature": 9}, "temperature"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"include": "message.output_text.logprobs"}, "include"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [WEATHER | {"name": "no spaces"}]}, "tools[0].name"),
        ({"tools": [TIME] * 129}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "x"}}, "tool_choice"),
        ({"tool_choice": {"type": "mcp", "server_label": "x"}}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        (
            {
                "text": {
                    "format": {
                        "type": "json_schema",
                        "name": "x",
                        "schema": {"title": "x" * 40_000},
                    }
                }
            },
            "text.format.schema",
        ),
        ({"reasoning": {"effort": "heroic"}}, "reasoning.effort"),
        ({"truncation": "maybe"}, "truncation"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {str(i): "x" for i in range(17)}}, "metadata"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True}, "background"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"keep_alive": "soon"}, "keep_alive"),
        ({"frobnicate": 1}, "frobnicate"),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_a_wrong_field_is_named(
    gateway: RunningGateway, worker: ScriptedWorker, fields: dict[str, Any], param: str
) -> None:
    reply = await gateway.http.post(PATH, json={"input": "hi"} | fields)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == param, reply.text
    assert len(reply.content) < 4096
    assert worker.calls == []


@pytest.mark.parametrize(
    "fields", [{"previous_response_id": "resp_1"}, {"input": [{"id": "msg_1"}]}], ids=str
)
async def test_what_needs_memory_is_refused_with_a_way_forward(
    gateway: RunningGateway, fields: dict[str, Any]
) -> None:
    error = (await gateway.http.post(PATH, json={"input": "hi"} | fields)).json()["error"]
    assert error["code"] == "unsupported_parameter"
    assert "stateless" in error["message"]
    assert error["suggestions"]


async def test_the_workers_complaints_name_this_apis_fields(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    for theirs, ours in (
        ("messages[2].content", "input"),
        ("response_format", "text.format"),
        ("temperature", "temperature"),
    ):

        async def refuses(
            _: chat_pb2.GenerateRequest, param: str = theirs
        ) -> AsyncIterator[chat_pb2.GenerateEvent]:
            raise InvalidRequest("no", param=param)
            yield

        worker.generate = refuses
        for stream in (False, True):
            reply = await gateway.http.post(PATH, json={"input": "hi", "stream": stream})
            assert reply.json()["error"]["param"] == ours
