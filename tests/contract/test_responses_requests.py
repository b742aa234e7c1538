"""What a request of the Responses API becomes for the worker, and what is refused by name."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from common.errors import InvalidRequest
from gateway.schemas.responses import ResponsesRequest, without_effect
from gateway.translate.responses_reply import ResponseBuilder
from gateway.translate.responses_request import generate_request
from gateway.translate.sampling import ChatDefaults
from protos.y26hkx.v1 import chat_pb2
from tests.contract.responses import PATH, TIME, WEATHER
from tests.contract.running_gateway import RunningGateway
from tests.contract.scripted_worker import ScriptedWorker

DEFAULTS = ChatDefaults(temperature=0.7, top_p=0.8, max_tokens=64)
WORDS = st.sampled_from(
    [
        "message",
        "function",
        "function_call",
        "reasoning",
        "input_text",
        "user",
        "auto",
        "json_schema",
    ]
)
KEYS = st.sampled_from(
    [
        "type",
        "role",
        "content",
        "text",
        "name",
        "call_id",
        "format",
        "schema",
        "effort",
        "id",
        "tools",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS | st.text()
VALUES = st.recursive(
    LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=4), max_leaves=8
)
FIELDS = st.sampled_from(sorted(ResponsesRequest.model_fields))
CALL: Any = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}


async def conversation(
    gateway: RunningGateway, worker: ScriptedWorker, **fields: Any
) -> chat_pb2.Conversation:
    """What reaches the worker of a request."""
    reply = await gateway.http.post(PATH, json={"input": "hi"} | fields)
    assert reply.status_code == 200, reply.text
    found: chat_pb2.Conversation = worker.calls[-1].request.conversation
    return found


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
            "metadata": {"a": "b"},
            "text": {"verbosity": "low"},
            "reasoning": {"summary": "auto"},
            "include": ["reasoning.encrypted_content"],
            "user": "me",
        },
    )
    names = "include, reasoning.summary, text.verbosity, user"
    assert reply.headers["x-ignored-parameters"] == names


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
        ({"input": [{"type": "wish", "id": "x"}]}, "input[0]"),
        ({"input": [{"type": 5}]}, "input[0]"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"id": "msg_1"}]}, "input[0]"),
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
        ({"tools": [{"type": "magic"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [WEATHER | {"name": "no spaces"}]}, "tools[0].name"),
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


@settings(max_examples=300, deadline=None)
@given(given_fields=st.dictionaries(FIELDS, VALUES, max_size=4))
def test_whatever_is_sent_is_understood_or_refused(given_fields: dict[str, Any]) -> None:
    try:
        body = ResponsesRequest.model_validate({"input": "hi"} | given_fields)
        message = generate_request(body, DEFAULTS, "")
    except (ValidationError, InvalidRequest):
        return
    without_effect(body)
    ResponseBuilder("0", body, DEFAULTS).response()
    assert message.SerializeToString()


async def test_what_was_sent_is_hardly_echoed(gateway: RunningGateway) -> None:
    long = "z" * 500_000
    for fields in (
        {long: 1},
        {"input": [{"type": long}]},
        {"tools": [{"type": long}]},
        {"include": [long]},
        {"model": long},
    ):
        reply = await gateway.http.post(PATH, json={"input": "hi"} | fields)
        assert reply.status_code == 400
        assert reply.text.count("z") < 400
