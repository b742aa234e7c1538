"""A model that was loaded smaller than asked for says so in every reply of every API."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import RunningGateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT, delta, finished, started

TURN = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": TURN},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"model": CHAT.id, "messages": TURN, "max_tokens": 4},
}
REDUCTIONS = ["context of 1,024 tokens instead of 2,560", "KV cache in q8_0"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
async def test_what_a_load_gave_up_is_said_in_header_and_body(
    gateway: RunningGateway, worker: ScriptedWorker, path: str, stream: bool
) -> None:
    async def reduced(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started(reductions=REDUCTIONS)
        yield delta("x")
        yield finished(1)

    worker.generate = reduced
    reply = await gateway.http.post(path, json=BODIES[path] | {"stream": stream})
    assert reply.headers["x-y26hkx-reduced"] == "; ".join(REDUCTIONS)
    assert '"reduced":["context of 1,024 tokens instead of 2,560","KV cache in q8_0"]' in reply.text


@pytest.mark.parametrize("path", BODIES)
async def test_a_model_loaded_as_asked_for_says_nothing(gateway: RunningGateway, path: str) -> None:
    reply = await gateway.http.post(path, json=BODIES[path])
    assert "x-y26hkx-reduced" not in reply.headers
    assert "reduced" not in reply.json()


async def test_the_header_is_plain_ascii_whatever_a_file_is_called(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def reduced(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started(reductions=["served by 模型\r\nx: y"])
        yield finished(0)

    worker.generate = reduced
    reply = await gateway.http.post("/v1/completions", json=BODIES["/v1/completions"])
    assert reply.headers["x-y26hkx-reduced"] == "served by ????x: y"
    assert reply.json()["reduced"] == ["served by 模型\r\nx: y"]
