"""What clients of Anthropic's API get: their SDK, blocks, named events, counts."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam, ToolParam

from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import RunningGateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, PROMPT_TOKENS, Generate, delta, finished, started

PATH, COUNT = "/v1/messages", "/v1/messages/count_tokens"
HELLO: MessageParam = {"role": "user", "content": "hi"}
BODY: dict[str, Any] = {"model": CHAT_ID, "max_tokens": 2, "messages": [HELLO]}
WEATHER: ToolParam = {
    "name": "weather",
    "description": "Looks out of the window",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(
        base_url=gateway.base_url, api_key="any", max_retries=0, timeout=30
    ) as sdk:
        yield sdk


def says(*events: chat_pb2.GenerateEvent, reason: str = "REASON_STOP", stop: str = "") -> Generate:
    async def generate(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started(cached_tokens=1)
        for event in events:
            yield event
        end = finished(len(events), reason=reason, cached=1)
        if stop:
            end.finished.choices[0].stop_sequence = stop
        yield end

    return generate


def calls(*pieces: tuple[int, str, str, str], text: str = "") -> chat_pb2.GenerateEvent:
    """A delta with pieces of tool calls: index, id, name, arguments."""
    return delta(
        text,
        tool_calls=[
            chat_pb2.ToolCallDelta(index=index, id=call_id, name=name, arguments=arguments)
            for index, call_id, name, arguments in pieces
        ],
    )


THINKS_AND_CALLS = (
    delta(reasoning="Which "),
    delta(reasoning="city?"),
    delta("Let me "),
    delta("look."),
    calls((0, "call_a", "weather", "")),
    calls((0, "", "", '{"city": ')),
    calls((0, "", "", '"Taipei"}'), (1, "call_b", "weather", "{}")),
    delta("Done"),
)
BLOCKS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Which city?"},
    {"type": "text", "text": "Let me look."},
    {"type": "tool_use", "id": "call_a", "name": "weather", "input": {"city": "Taipei"}},
    {"type": "tool_use", "id": "call_b", "name": "weather", "input": {}},
    {"type": "text", "text": "Done"},
]


def shown(message: anthropic.types.Message) -> list[dict[str, Any]]:
    wanted = {"type", "text", "thinking", "id", "name", "input"}
    return [block.model_dump(include=wanted) for block in message.content]


def events_of(text: str) -> list[dict[str, Any]]:
    """The data of all events, each of which has its type as its name too."""
    found = []
    for frame in text.strip().split("\n\n"):
        if not frame.startswith(":"):
            name, data = frame.split("\n")
            found.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {found[-1]['type']}"
    return found


async def test_the_sdk_gets_a_message(client: AsyncAnthropic) -> None:
    message = await client.messages.create(model=CHAT_ID, max_tokens=3, messages=[HELLO])
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", CHAT_ID)
    assert shown(message) == [{"type": "text", "text": "0 1 2 "}]
    assert (message.stop_reason, message.stop_sequence) == ("max_tokens", None)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (PROMPT_TOKENS, 3)


async def test_the_sdk_streams_the_same_message(client: AsyncAnthropic) -> None:
    async with client.messages.stream(model=CHAT_ID, max_tokens=3, messages=[HELLO]) as stream:
        assert [text async for text in stream.text_stream] == ["0 ", "1 ", "2 "]
        message = await stream.get_final_message()
    assert shown(message) == [{"type": "text", "text": "0 1 2 "}]
    assert message.stop_reason == "max_tokens"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (PROMPT_TOKENS, 3)


async def test_the_sdks_beta_client_is_served_too(client: AsyncAnthropic) -> None:
    message = await client.beta.messages.create(**BODY, betas=["files-api-2025-04-14"])
    assert message.content[0].type == "text"


async def test_the_sdks_tool_runner_goes_on_without_a_thread(
    client: AsyncAnthropic, worker: ScriptedWorker
) -> None:
    @anthropic.beta_async_tool
    async def weather(city: str) -> str:
        """Tell the weather.

        Args:
            city: where
        """
        return f"sun over {city}"

    call = says(calls((0, "call_a", "weather", '{"city": "Bern"}')), reason="REASON_TOOL_CALLS")
    end = says(delta("Sunny."))

    def calls_then_ends(
        request: chat_pb2.GenerateRequest,
    ) -> AsyncIterator[chat_pb2.GenerateEvent]:
        has_result = request.conversation.messages[-1].role == "tool"
        return (end if has_result else call)(request)

    worker.generate = calls_then_ends
    runner = client.beta.messages.tool_runner(
        model=CHAT_ID,
        max_tokens=9,
        messages=[{"role": "user", "content": "hi"}],
        tools=[weather],
    )
    last = await runner.until_done()
    assert [block.text for block in last.content if block.type == "text"] == ["Sunny."]
    *_, result = worker.calls[-1].request.conversation.messages
    assert (result.role, result.content) == ("tool", "sun over Bern")


@pytest.mark.parametrize("stream", [False, True])
async def test_thinking_text_and_calls_are_blocks_of_their_own(
    client: AsyncAnthropic, worker: ScriptedWorker, stream: bool
) -> None:
    worker.generate = says(*THINKS_AND_CALLS, reason="REASON_TOOL_CALLS")
    if stream:
        async with client.messages.stream(**BODY, tools=[WEATHER]) as events:
            message = await events.get_final_message()
    else:
        message = await client.messages.create(**BODY, tools=[WEATHER])
    assert shown(message) == BLOCKS
    assert message.stop_reason == "tool_use"
    assert message.content[0].type == "thinking"
    assert message.content[0].signature
    assert message.usage.cache_read_input_tokens == 1
    assert message.usage.input_tokens == PROMPT_TOKENS - 1


async def test_a_stream_opens_and_closes_each_block_before_the_next(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = says(*THINKS_AND_CALLS, reason="REASON_TOOL_CALLS")
    reply = await gateway.http.post(PATH, json=BODY | {"stream": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    found = events_of(reply.text)
    begun = found[0]["message"]
    assert begun["content"] == []
    assert begun["stop_reason"] is None
    assert begun["usage"]["input_tokens"] == PROMPT_TOKENS - 1
    types = [event["type"].removeprefix("content_block_") for event in found]
    expected = ["message_start", "ping"]
    # The thinking has its signature besides.
    for n_deltas in (2 + 1, 2, 2, 1, 1):
        expected += ["start", *["delta"] * n_deltas, "stop"]
    assert types == [*expected, "message_delta", "message_stop"]
    indexes = [event["index"] for event in found if "index" in event]
    assert indexes == sorted(indexes)
    assert set(indexes) == set(range(len(BLOCKS)))
    assert found[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert found[-2]["usage"]["output_tokens"] == len(THINKS_AND_CALLS)


async def test_arguments_that_were_cut_are_an_empty_object(
    client: AsyncAnthropic, worker: ScriptedWorker
) -> None:
    worker.generate = says(calls((0, "c", "weather", '{"city": "Ta')), reason="REASON_LENGTH")
    message = await client.messages.create(**BODY)
    assert shown(message)[0]["input"] == {}
    assert message.stop_reason == "max_tokens"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_stop_sequence_that_ended_it_is_named(
    client: AsyncAnthropic, worker: ScriptedWorker, stream: bool
) -> None:
    worker.generate = says(delta("a"), stop="END")
    async with client.messages.stream(**BODY, stop_sequences=["END"]) as events:
        streamed = await events.get_final_message()
    plain = await client.messages.create(**BODY, stop_sequences=["END"])
    message = streamed if stream else plain
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")
    assert list(worker.calls[-1].request.stop) == ["END"]


async def test_an_answer_of_nothing_has_no_blocks(
    client: AsyncAnthropic, worker: ScriptedWorker
) -> None:
    worker.generate = says()
    async with client.messages.stream(**BODY) as events:
        assert (await events.get_final_message()).content == []
    message = await client.messages.create(**BODY)
    assert (message.content, message.stop_reason) == ([], "end_turn")


async def test_a_conversation_with_tools_reaches_the_worker_whole(
    client: AsyncAnthropic, worker: ScriptedWorker
) -> None:
    worker.generate = says(*THINKS_AND_CALLS[:7], reason="REASON_TOOL_CALLS")
    first = await client.messages.create(**BODY, tools=[WEATHER])
    results: MessageParam = {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "call_a", "content": "sunny"},
            {
                "type": "tool_result",
                "tool_use_id": "call_b",
                "content": [{"type": "text", "text": "no city"}],
                "is_error": True,
            },
            {"type": "text", "text": "Well?"},
        ],
    }
    await client.messages.create(
        model=CHAT_ID,
        max_tokens=5,
        system=[{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
        messages=[HELLO, first.to_param(), results, {"role": "user", "content": "Hello?"}],
        tools=[WEATHER],
        tool_choice={"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
        thinking={"type": "enabled", "budget_tokens": 1024},
        extra_body={"temperature": 0.25, "top_p": 0.5, "top_k": 7, "max_tokens": 2000},
    )
    request = worker.calls[-1].request
    conversation = request.conversation
    assert [(m.role, m.content, m.tool_call_id) for m in conversation.messages] == [
        ("system", "Be brief.\nBe kind.", ""),
        ("user", "hi", ""),
        ("assistant", "Let me look.", ""),
        ("tool", "sunny", "call_a"),
        ("tool", "Error: no city", "call_b"),
        ("user", "Well?\nHello?", ""),
    ]
    said = conversation.messages[2]
    assert said.reasoning == "Which city?"
    asked = [(call.id, call.name, json.loads(call.arguments)) for call in said.tool_calls]
    assert asked == [("call_a", "weather", {"city": "Taipei"}), ("call_b", "weather", {})]
    (tool,) = conversation.tools
    assert (tool.name, tool.description) == ("weather", WEATHER["description"])
    assert json.loads(tool.parameters_json) == WEATHER["input_schema"]
    assert conversation.tool_choice.mode == chat_pb2.ToolChoice.MODE_NAMED
    assert conversation.tool_choice.name == "weather"
    assert conversation.parallel_tool_calls is False
    assert dict(conversation.template_kwargs) == {"enable_thinking": True, "thinking_budget": 1024}
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.25, 0.5, 7)
    assert request.max_tokens == 2000


async def test_a_document_that_is_a_text_is_read(
    client: AsyncAnthropic, worker: ScriptedWorker
) -> None:
    def document(text: str) -> Any:
        source = {"type": "text", "media_type": "text/plain", "data": text}
        return {"type": "document", "source": source, "title": "Log", "context": "of Monday"}

    asked: Any = [{"type": "text", "text": "Sum up"}, document("all well")]
    call: Any = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    result: Any = {"type": "tool_result", "tool_use_id": "a", "content": [document("rain")]}
    messages: list[MessageParam] = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    await client.messages.create(**BODY | {"messages": messages})
    sent = worker.calls[-1].request.conversation.messages
    assert sent[0].content == "Sum up\nLog\nof Monday\nall well"
    assert sent[2].content == "Log\nof Monday\nrain"


@pytest.mark.parametrize(
    ("choice", "mode"), [("auto", "MODE_AUTO"), ("any", "MODE_REQUIRED"), ("none", "MODE_NONE")]
)
async def test_each_tool_choice_has_its_mode(
    gateway: RunningGateway, worker: ScriptedWorker, choice: str, mode: str
) -> None:
    body = BODY | {"tools": [WEATHER], "tool_choice": {"type": choice}}
    assert (await gateway.http.post(PATH, json=body)).status_code == httpx.codes.OK
    sent = worker.calls[-1].request.conversation
    assert sent.tool_choice.mode == chat_pb2.ToolChoice.Mode.Value(mode)
    assert not sent.HasField("parallel_tool_calls")


async def test_a_wanted_format_and_keep_alive_are_passed_on(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    config = {"format": {"type": "json_schema", "schema": schema}}
    more = {"output_config": config, "keep_alive": "5m", "thinking": {"type": "disabled"}}
    assert (await gateway.http.post(PATH, json=BODY | more)).status_code == httpx.codes.OK
    request = worker.calls[-1].request
    assert json.loads(request.constraint.json_schema) == schema
    assert request.keep_alive_s == 300
    assert dict(request.conversation.template_kwargs) == {"enable_thinking": False}


async def test_tokens_are_counted_without_generating(
    client: AsyncAnthropic, worker: ScriptedWorker
) -> None:
    count = await client.messages.count_tokens(
        model=CHAT_ID, messages=[HELLO], system="Be brief.", tools=[WEATHER]
    )
    assert count.input_tokens == PROMPT_TOKENS
    (call,) = worker.calls
    assert isinstance(call.request, chat_pb2.ApplyTemplateRequest)
    assert [m.content for m in call.request.conversation.messages] == ["Be brief.", "hi"]
    assert len(call.request.conversation.tools) == 1


@pytest.mark.parametrize("path", [PATH, COUNT])
async def test_what_has_no_effect_is_named(gateway: RunningGateway, path: str) -> None:
    cached = {"cache_control": {"type": "ephemeral"}}
    body: dict[str, Any] = {
        "model": CHAT_ID,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"} | cached]}],
        "tools": [dict(WEATHER) | {"input_examples": [{"city": "Taipei"}]}],
        "thinking": {"type": "adaptive", "display": "omitted"},
        "context_management": {"edits": []},
    }
    expected = {"cache_control", "input_examples", "display", "context_management"}
    if path == PATH:
        body |= {"max_tokens": 1, "metadata": {"user_id": "u"}, "service_tier": "auto"}
        expected |= {"metadata", "service_tier"}
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "tools-2024-04-04"}
    reply = await gateway.http.post(path, json=body, headers=headers)
    assert reply.status_code == httpx.codes.OK, reply.text
    assert set(reply.headers["x-ignored-parameters"].split(", ")) == expected
