"""Hostile and broken connections: slow, silent, ambiguous, too many."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from gateway.transport import connection
from protos.y26hkx.v1 import chat_pb2
from tests.contract.failures import BODY
from tests.contract.running_gateway import RunningGateway, running_gateway, until
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import count_up

GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"


async def answer(gateway: RunningGateway, request: bytes, within_s: float = 10) -> bytes:
    """All bytes that come back until the server closes."""
    async with gateway.raw() as (reader, writer):
        writer.write(request)
        try:
            async with asyncio.timeout(within_s):
                return await reader.read()
        except ConnectionResetError:
            return b""


def status_and_error(reply: bytes) -> tuple[int, dict[str, object]]:
    head, _, body = reply.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    error: dict[str, object] = json.loads(body)["error"]
    request_id = str(error["request_id"]).lower().encode()
    assert b"x-request-id: " + request_id in lines
    return int(lines[0].split()[1]), error


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        GET + b"Host: y\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        GET + b"Bad Name: y\r\n\r\n",
        GET + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
        GET + b"Content-Length: -5\r\n\r\n",
        GET + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    ],
    ids=lambda value: repr(value[-24:]),
)
async def test_what_is_not_http_is_a_400_in_shape(
    worker: ScriptedWorker, request_bytes: bytes
) -> None:
    async with running_gateway([worker], header_timeout_s=1) as gateway:
        status, _ = status_and_error(await answer(gateway, request_bytes))
    assert status in (400, 408)


async def test_both_lengths_are_refused_and_the_connection_ends(gateway: RunningGateway) -> None:
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
    smuggled = b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /health/live HTTP/1.1\r\n\r\n"
    reply = await answer(gateway, head + smuggled)
    assert status_and_error(reply)[0] == 400
    assert reply.count(b"HTTP/1.1") == 1


async def test_too_many_header_fields_are_refused(gateway: RunningGateway) -> None:
    fields = b"".join(b"X-%d: y\r\n" % i for i in range(80))
    reply = await answer(gateway, GET + fields + b"\r\n")
    assert status_and_error(reply)[0] == 400


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nHo"])
async def test_a_silent_or_slow_head_is_closed(worker: ScriptedWorker, first: bytes) -> None:
    async with (
        running_gateway([worker], header_timeout_s=0.3) as gateway,
        gateway.raw() as (reader, writer),
    ):
        writer.write(first)
        async with asyncio.timeout(10):
            await reader.read()


async def test_a_head_that_trickles_is_closed_also_on_a_used_connection(
    worker: ScriptedWorker,
) -> None:
    async with (
        running_gateway([worker], header_timeout_s=0.5) as gateway,
        gateway.raw() as (reader, writer),
    ):
        writer.write(GET + b"\r\n")
        await reader.readuntil(b'"live"}')

        async def trickle() -> None:
            for byte in b"GET / HTTP/1.1\r\n" * 1000:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        try:
            async with asyncio.timeout(10):
                await reader.read()
        except ConnectionResetError:
            pass
        finally:
            trickling.cancel()


async def test_a_body_that_trickles_is_a_408(worker: ScriptedWorker) -> None:
    async with (
        running_gateway([worker], body_timeout_s=0.5) as gateway,
        gateway.raw() as (reader, writer),
    ):
        writer.write(
            b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n"
        )

        async def trickle() -> None:
            for _ in range(5000):
                writer.write(b" ")
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        try:
            async with asyncio.timeout(10):
                head = await reader.readuntil(b"\r\n\r\n")
        finally:
            trickling.cancel()
        assert head.startswith(b"HTTP/1.1 408")


async def test_idle_connections_make_room_for_those_who_ask(worker: ScriptedWorker) -> None:
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(running_gateway([worker], max_connections=8))
        for _ in range(30):
            await stack.enter_async_context(gateway.raw())
        reply = await answer(gateway, GET + b"Connection: close\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 200")
        await until(lambda: len(gateway.server.server_state.connections) <= 8)


async def test_many_connections_of_one_local_proxy_are_taken(worker: ScriptedWorker) -> None:
    async with AsyncExitStack() as stack:
        limit = {"max_connections_per_address": 4}
        gateway = await stack.enter_async_context(running_gateway([worker], **limit))
        for _ in range(12):
            await stack.enter_async_context(gateway.raw())
        assert (await gateway.http.get("/health/live")).status_code == 200


async def test_pipelined_requests_are_answered_in_order(gateway: RunningGateway) -> None:
    last = GET + b"Connection: close\r\n\r\n"
    reply = await answer(gateway, (GET + b"\r\n") * 2 + last)
    assert reply.count(b"HTTP/1.1 200 OK") == 3


async def test_an_upgrade_is_not_followed(gateway: RunningGateway) -> None:
    fields = b"Connection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    assert (await answer(gateway, GET + fields)).startswith(b"HTTP/1.1 200")


async def test_the_server_does_not_name_itself(gateway: RunningGateway) -> None:
    assert "server" not in (await gateway.http.get("/health")).headers


async def test_a_head_without_a_body_does_not_wait(gateway: RunningGateway) -> None:
    async with gateway.raw() as (reader, writer):
        writer.write(GET.replace(b"GET", b"HEAD") + b"\r\n")
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_who_asks_before_sending_a_body_is_answered_first(gateway: RunningGateway) -> None:
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
    async with gateway.raw() as (reader, writer), asyncio.timeout(10):
        writer.write(head + b"Content-Length: 4\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(b"null")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400")


async def test_requests_that_are_sent_ahead_are_answered_in_order_and_read_one_by_one(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    may_answer = asyncio.Event()

    async def waits(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        await may_answer.wait()
        async for event in count_up(request):
            yield event

    worker.generate = waits
    body = json.dumps(BODY).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: first\r\n"
    chat = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    async with gateway.raw() as (reader, writer), asyncio.timeout(20):
        writer.write(chat)
        await worker.next_call()
        ahead = (GET + b"X-Request-Id: %d\r\n\r\n" % number for number in range(200_000))
        writer.write(b"".join(ahead))
        await asyncio.sleep(0.2)
        # It is in the buffers of the system and of this side: the gateway does not read on.
        assert writer.transport.get_write_buffer_size() > 0
        assert len(gateway.server.requests) == 1
        (one,) = (one for one in gateway.server.config.http.inside if one.is_answering)
        assert one.n_ahead_bytes < 2**20
        may_answer.set()
        for name in (b"first", *(b"%d" % number for number in range(50))):
            assert b"\r\nx-request-id: " + name in await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b"}" if name != b"first" else b"}}")


async def test_a_connection_ends_after_many_requests_and_says_so(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MOST_REQUESTS", 3)
    for requests in ([GET + b"\r\n"] * 3, [(GET + b"\r\n") * 3]):
        async with gateway.raw() as (reader, writer), asyncio.timeout(10):
            for request in requests:
                writer.write(request)
                await asyncio.sleep(0)
            replies = (await reader.read()).split(b"HTTP/1.1 200 OK")[1:]
        assert [b"connection: close" in reply for reply in replies] == [False, False, True]
