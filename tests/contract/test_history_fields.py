"""What clients send back of earlier replies, of this server and of others, is never refused."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import RunningGateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import EMBED_ID, delta, finished, started

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
HELLO: dict[str, Any] = {"role": "user", "content": "hi"}
# Fields of vendors, of gateways and of SDKs, with a value that says something.
FOREIGN: dict[str, Any] = {
    "annotations": [{"type": "url_citation"}],
    "audio": {"id": "audio_1"},
    "cache_control": {"type": "ephemeral"},
    "extra_content": {"google": {"thought_signature": "x"}},
    "id": "msg_1",
    "metadata": {"a": 1},
    "provider_specific_fields": {"a": 1},
    "reasoning_details": [{"type": "x"}],
    "thinking_blocks": [{"type": "thinking"}],
}
NOTHING: dict[str, Any] = {"audio": None, "annotations": [], "function_call": None, "refusal": None}


async def test_foreign_fields_of_chat_messages_parts_and_calls_are_named(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    part = {"type": "text", "text": "so", "role": "assistant", "refusal": None}
    call = {
        "id": "c",
        "type": "function",
        "index": 0,
        "extra_content": {"a": 1},
        "function": {"name": "ns:f/g", "arguments": {"a": 1}, "parsed_arguments": {"a": 1}},
    }
    history = [
        HELLO | FOREIGN | NOTHING,
        {"role": "assistant", "content": [part], "tool_calls": [call]} | FOREIGN,
        {"role": "tool", "tool_call_id": "c", "content": "1", "is_error": True},
    ]
    reply = await gateway.http.post(CHAT, json={"messages": history})
    assert reply.status_code == 200, reply.text
    named = {*FOREIGN, "is_error", "parsed_arguments", "role"}
    assert reply.headers["x-ignored-parameters"] == ", ".join(sorted(named))
    _, answer, _ = worker.calls[-1].request.conversation.messages
    assert answer.content == "so"
    (sent,) = answer.tool_calls
    assert (sent.name, json.loads(sent.arguments)) == ("ns:f/g", {"a": 1})


async def test_foreign_fields_of_anthropics_turns_blocks_and_tools_are_named(
    gateway: RunningGateway,
) -> None:
    call = {"type": "tool_use", "id": "a", "name": "ns:f", "input": {}, "index": 1}
    history = [
        HELLO | {"id": "m", "timestamp": 5},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm"}, call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "name": "f"}]},
    ]
    tool = {"name": "f", "extra": True}
    body = {"model": "", "max_tokens": 2, "messages": history, "tools": [tool]}
    reply = await gateway.http.post(MESSAGES, json=body)
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-ignored-parameters"] == "extra, id, index, name, timestamp"


async def test_foreign_fields_of_items_are_named(gateway: RunningGateway) -> None:
    said = {"role": "assistant", "content": [{"type": "output_text", "text": "a", "role": "x"}]}
    items = [HELLO | {"provider_data": {"a": 1}}, said, HELLO]
    reply = await gateway.http.post(RESPONSES, json={"input": items})
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-ignored-parameters"] == "provider_data, role"


async def test_names_that_no_header_can_hold_are_told_without_harm(gateway: RunningGateway) -> None:
    foreign = {"a\r\nx-evil: 1": 1, "鍵": 1, "z" * 300: 1} | {f"n{i}": 1 for i in range(100)}
    messages = [HELLO | dict(list(foreign.items())[at : at + 60]) for at in (0, 60)]
    reply = await gateway.http.post(CHAT, json={"messages": messages})
    assert reply.status_code == 200, reply.text
    assert "x-evil" not in reply.headers
    assert len(reply.headers["x-ignored-parameters"]) < 8192


@pytest.mark.parametrize("name", ["", " ", "a b", "鍵", "é", "a\r\nx-evil: 1"], ids=repr)
async def test_odd_names_are_told_by_every_api(gateway: RunningGateway, name: str) -> None:
    bodies = {
        CHAT: {"messages": [HELLO | {name: 1}]},
        "/api/embed": {"model": EMBED_ID, "input": "a", name: 1},
    }
    for path, body in bodies.items():
        reply = await gateway.http.post(path, json=body)
        assert reply.status_code == 200, reply.text
        assert "x-evil" not in reply.headers
        assert reply.headers["x-ignored-parameters"]


async def test_anthropics_prefill_reaches_the_worker_as_the_last_message(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    prefill = {"role": "assistant", "content": "Well,"}
    body = {"model": "", "max_tokens": 2, "messages": [HELLO, prefill]}
    reply = await gateway.http.post(MESSAGES, json=body)
    assert reply.status_code == 200, reply.text
    *_, last = worker.calls[-1].request.conversation.messages
    assert (last.role, last.content) == ("assistant", "Well,")


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
async def test_a_long_session_has_no_limits_of_count(
    gateway: RunningGateway, worker: ScriptedWorker, path: str
) -> None:
    messages = [HELLO, {"role": "assistant", "content": "y"}] * 3000 + [HELLO]
    schema: Any = {"type": "object", "properties": {}}
    name, description = "f" * 200, "d" * 20_000
    if path == CHAT:
        tools = [{"function": {"name": f"{name}{i}", "parameters": schema}} for i in range(500)]
        tools[0]["function"]["description"] = description
        body: dict[str, Any] = {
            "messages": messages,
            "tools": [t | {"type": "function"} for t in tools],
        }
    elif path == MESSAGES:
        named = [{"name": f"{name}{i}", "input_schema": schema} for i in range(500)]
        body = {"model": "", "max_tokens": 2, "messages": messages, "tools": named}
        named[0]["description"] = description
    else:
        offered = [{"type": "function", "name": f"{name}{i}"} for i in range(500)]
        offered[0]["description"] = description
        body = {"input": messages, "tools": offered}
    reply = await gateway.http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    conversation = worker.calls[-1].request.conversation
    assert (len(conversation.messages), len(conversation.tools)) == (6001, 500)
    assert conversation.tools[0].description == description


async def test_each_streamed_chunk_holds_one_call(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    calls = [
        chat_pb2.ToolCallDelta(index=i, id=f"c{i}", name="f", arguments="{}") for i in range(3)
    ]

    async def generate(_: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        for event in (
            started(),
            delta("So: ", reasoning="Hm", tool_calls=calls),
            finished(9, reason="REASON_TOOL_CALLS"),
        ):
            yield event

    worker.generate = generate
    reply = await gateway.http.post(CHAT, json={"messages": [HELLO], "stream": True})
    lines = [line[6:] for line in reply.text.splitlines() if line.startswith("data: {")]
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines]
    spoken = [found for found in deltas if "tool_calls" not in found]
    assert {"content": "So: ", "reasoning_content": "Hm"} in spoken
    called = [found["tool_calls"] for found in deltas if "tool_calls" in found]
    assert [[call["index"] for call in calls] for calls in called] == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"messages": [HELLO] * 16_385}, "messages"),
        (CHAT, {"messages": [HELLO | {"content": [{"type": "text", "text": ""}] * 16_385}]}, None),
        (MESSAGES, {"model": "", "max_tokens": 2, "messages": [HELLO] * 16_385}, "messages"),
        (RESPONSES, {"input": [HELLO] * 16_385}, "input"),
    ],
    ids=["messages", "parts", "turns", "items"],
)
async def test_more_than_any_session_has_is_refused_before_it_holds_others_up(
    gateway: RunningGateway, path: str, body: dict[str, Any], param: str | None
) -> None:
    reply = await gateway.http.post(path, json=body)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == (param or "messages[0].content")
