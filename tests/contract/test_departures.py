"""A client that leaves, or does not read, stops its generation: on real sockets, where it shows."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from protos.y26hkx.v1 import chat_pb2, embed_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway, until
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, delta, finished, queued, started

# The bar is 500 ms; a loaded test machine gets its own time on top.
NOTICED_WITHIN_S = 5.0


async def never_starts(
    request: chat_pb2.GenerateRequest,
) -> AsyncIterator[chat_pb2.GenerateEvent]:
    await asyncio.Event().wait()
    yield started()


async def stays_queued(
    request: chat_pb2.GenerateRequest,
) -> AsyncIterator[chat_pb2.GenerateEvent]:
    yield queued(2)
    await asyncio.Event().wait()


async def prefills_for_ever(
    request: chat_pb2.GenerateRequest,
) -> AsyncIterator[chat_pb2.GenerateEvent]:
    yield started()
    await asyncio.Event().wait()


async def talks_for_ever(
    request: chat_pb2.GenerateRequest,
) -> AsyncIterator[chat_pb2.GenerateEvent]:
    yield started()
    while True:
        yield delta("x" * 1000)
        await asyncio.sleep(0.001)


async def tidies_up(
    request: chat_pb2.GenerateRequest,
) -> AsyncIterator[chat_pb2.GenerateEvent]:
    """A worker has something to do after its last event: it ends its lease on the model."""
    yield started()
    yield delta("x")
    yield finished(1)
    for _ in range(20):
        await asyncio.sleep(0)


async def never_ends(
    request: chat_pb2.GenerateRequest,
) -> AsyncIterator[chat_pb2.GenerateEvent]:
    yield started()
    yield finished(1)
    await asyncio.Event().wait()


def request_bytes(path: str, body: dict[str, object]) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("script", [never_starts, stays_queued, prefills_for_ever, talks_for_ever])
async def test_a_client_that_leaves_stops_the_generation(
    gateway: RunningGateway, worker: ScriptedWorker, script: object, stream: bool, path: str
) -> None:
    worker.generate = script  # type: ignore[assignment]
    body: dict[str, object] = {"stream": stream}
    body |= {"messages": [{"role": "user", "content": "hi"}]} if "chat" in path else {"prompt": "x"}
    async with gateway.raw() as (_, writer):
        writer.write(request_bytes(path, body))
        call = await worker.next_call()
    await asyncio.wait_for(call.cancelled.wait(), NOTICED_WITHIN_S)
    (endpoint,) = gateway.services.pool.chat.endpoints
    await until(lambda: endpoint.n_outstanding == 0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]
)
async def test_a_finished_generation_is_not_cancelled(
    gateway: RunningGateway, worker: ScriptedWorker, path: str, stream: bool
) -> None:
    worker.generate = tidies_up
    prompts = {"/v1/completions": {"prompt": "x"}, "/v1/responses": {"input": "x"}}
    chat = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    body = {"model": CHAT_ID, "stream": stream} | prompts.get(path, chat)
    reply = await gateway.http.post(path, json=body)
    assert reply.status_code == httpx.codes.OK, reply.text
    call = await worker.next_call()
    await asyncio.wait_for(call.ended.wait(), NOTICED_WITHIN_S)
    assert not call.cancelled.is_set()


async def test_a_worker_that_does_not_end_its_stream_does_not_hold_up_the_reply(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = never_ends
    body = {"messages": [{"role": "user", "content": "x"}]}
    reply = await gateway.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == httpx.codes.OK, reply.text
    call = await worker.next_call()
    await asyncio.wait_for(call.cancelled.wait(), NOTICED_WITHIN_S)


async def test_a_client_that_leaves_stops_its_embedding(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def hangs(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    worker.embed = hangs
    async with gateway.raw() as (_, writer):
        writer.write(request_bytes("/v1/embeddings", {"input": "x"}))
        call = await worker.next_call()
    await asyncio.wait_for(call.cancelled.wait(), NOTICED_WITHIN_S)


async def test_a_client_that_does_not_read_is_cut_off(worker: ScriptedWorker) -> None:
    worker.generate = talks_for_ever
    async with (
        running_gateway([worker], write_stall_s=0.5) as gateway,
        gateway.raw(limit=1024) as (_, writer),
    ):
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        writer.write(request_bytes("/v1/chat/completions", body))
        call = await worker.next_call()
        await asyncio.wait_for(call.ended.wait(), 20)
        (endpoint,) = gateway.services.pool.chat.endpoints
        await until(lambda: endpoint.n_outstanding == 0)
        await until(lambda: not gateway.server.server_state.connections)


async def test_a_plain_reply_that_nobody_reads_is_dropped_too(worker: ScriptedWorker) -> None:
    async def huge(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
        return embed_pb2.EmbedResponse(vectors=bytes(16 << 20), dimension=2048)

    worker.embed = huge
    async with (
        running_gateway([worker], write_stall_s=0.5) as gateway,
        gateway.raw(limit=1024) as (_, writer),
    ):
        body: dict[str, object] = {"input": "x", "encoding_format": "base64"}
        writer.write(request_bytes("/v1/embeddings", body))
        await worker.next_call()
        await until(lambda: not gateway.server.server_state.connections, within_s=20)


async def test_leaving_is_no_internal_error_in_the_metrics(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = never_starts
    body: dict[str, object] = {"messages": [{"role": "user", "content": "hi"}]}
    async with gateway.raw() as (_, writer):
        writer.write(request_bytes("/v1/chat/completions", body))
        call = await worker.next_call()
    await asyncio.wait_for(call.cancelled.wait(), NOTICED_WITHIN_S)
    await until(lambda: not gateway.server.server_state.tasks)
    page = (await gateway.http.get("/metrics")).text
    assert 'y26hkx_errors_total{kind="internal"} 0.0' in page
