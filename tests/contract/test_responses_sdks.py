"""The Responses API as OpenAI's own SDK and LangChain see it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from common.errors import WorkerLost
from protos.y26hkx.v1 import chat_pb2
from tests.contract.responses import PATH, THINK_SPEAK_CALL, TIME, WEATHER, script, sdk
from tests.contract.running_gateway import RunningGateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, PROMPT_TOKENS, delta, finished, started


class Town(BaseModel):
    name: str
    people: int


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


# What Open Responses, the common description of this API, requires of every response.
REQUIRED = {
    *("id", "object", "created_at", "completed_at", "status", "incomplete_details", "model"),
    *("previous_response_id", "instructions", "output", "error", "tools", "tool_choice"),
    *("truncation", "parallel_tool_calls", "text", "top_p", "presence_penalty"),
    *("frequency_penalty", "top_logprobs", "temperature", "reasoning", "user", "usage"),
    *("max_output_tokens", "max_tool_calls", "store", "background", "service_tier", "metadata"),
    *("safety_identifier", "prompt_cache_key"),
}


async def test_a_response_has_what_open_responses_requires(gateway: RunningGateway) -> None:
    fields = {"input": "count", "presence_penalty": 0.5}
    reply = (await gateway.http.post(PATH, json=fields)).json()
    assert not REQUIRED - reply.keys()
    assert (reply["presence_penalty"], reply["frequency_penalty"]) == (0.5, 0)


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


async def test_items_that_were_dumped_with_what_the_sdk_parsed_are_taken_back(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = THINK_SPEAK_CALL
    async with sdk(gateway) as client:
        first = await client.responses.parse(model=CHAT_ID, input="hi", tools=[WEATHER, TIME])
        items: Any = [{"role": "user", "content": "hi"}, *(o.model_dump() for o in first.output)]
        await client.responses.create(model=CHAT_ID, input=items, tools=[WEATHER, TIME])
    assert len(worker.calls[-1].request.conversation.messages[-1].tool_calls) == 2


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


async def test_langchain_goes_on_with_its_own_items(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = THINK_SPEAK_CALL
    model = ChatOpenAI(
        model=CHAT_ID,
        base_url=f"{gateway.base_url}/v1",
        api_key=SecretStr("any"),
        use_responses_api=True,
        max_retries=0,
    ).bind_tools([WEATHER])
    history: list[BaseMessage] = [HumanMessage("Bern?")]
    answer = await model.ainvoke(history)
    pieces = [piece async for piece in model.astream(history)]
    assert answer.text == "".join(piece.text for piece in pieces) == "I look it up."
    assert [call["args"] for call in answer.tool_calls] == [{"town": "Bern"}, {}]
    outputs = [ToolMessage("fine", tool_call_id=call["id"]) for call in answer.tool_calls]
    await model.ainvoke([*history, answer, *outputs])
    found = worker.calls[-1].request.conversation.messages
    assert [message.role for message in found] == ["user", "assistant", "tool", "tool"]
    assert found[1].content == "I look it up."
    assert len(found[1].tool_calls) == 2
