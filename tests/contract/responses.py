"""What workers say, and clients offer, in tests of the Responses API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai

from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import RunningGateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import Generate, delta, finished, started

PATH = "/v1/responses"
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "of a town",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    "strict": True,
}
TIME: Any = {"type": "function", "name": "time", "parameters": None, "strict": None}


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


async def ask(gateway: RunningGateway, input: Any = "hi", **fields: Any) -> dict[str, Any]:
    reply = await gateway.http.post(PATH, json={"input": input, "max_output_tokens": 2} | fields)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def said(worker: ScriptedWorker) -> list[tuple[str, str]]:
    request: chat_pb2.GenerateRequest = worker.calls[-1].request
    return [(message.role, message.content) for message in request.conversation.messages]
