"""What the gateway leans on inside uvicorn and httptools, over real sockets, without itself."""

import asyncio
import signal
import socket
import time
from asyncio import StreamReader, StreamWriter, Transport
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from gateway.transport import http1, uvicorn_internals
from gateway.transport.http1 import Http1Connection
from gateway.transport.uvicorn_internals import QuietServer
from gateway.transport.write_coalescing import WriteCoalescing
from tests.contract.running_gateway import hang_up, until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LONG_POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
BODY = b"whole"


class NotedConnection(Http1Connection):
    """Writes down what it is told, and how things stand then."""

    notes: list[tuple[Any, ...]]

    def connection_made(self, transport: Transport) -> None:
        super().connection_made(transport)
        self.notes.append(("open", (self.client or ("",))[0], self.is_answering))

    def on_answered(self) -> None:
        self.notes.append(("answered", self.is_answering, self.is_sent_a_body))

    def on_invalid(self) -> None:
        self.notes.append(("invalid",))
        self.reply_and_close(418, [("content-length", "1"), ("connection", "close")], b"!")


class NotedServer(QuietServer):
    def __init__(self, config: uvicorn.Config, may_end: asyncio.Event) -> None:
        super().__init__(config, may_end)
        self.ticks: list[int] = []

    async def on_tick(self, counter: int) -> bool:
        self.ticks.append(counter)
        return bool(await super().on_tick(counter))


@dataclass
class Running:
    """A server whose app answers once it may."""

    server: NotedServer
    notes: list[tuple[Any, ...]] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
        port = self.server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield reader, writer
        finally:
            await hang_up(writer)


@pytest.fixture
async def running(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setattr(uvicorn_internals, "TICK_S", 0.01)
    may_end = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await found.may_answer.wait()
        headers = [(b"content-length", b"%d" % len(BODY))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})

    notes: list[tuple[Any, ...]] = []
    config = uvicorn.Config(
        app,
        port=0,
        http=type("Connection", (NotedConnection,), {"notes": notes}),
        ws="none",
        lifespan="off",
        log_config=None,
    )
    found = Running(NotedServer(config, may_end), notes)
    serving = asyncio.create_task(found.server.serve())
    await until(lambda: found.server.started or serving.done())
    try:
        yield found
    finally:
        found.server.should_exit = True
        may_end.set()
        async with asyncio.timeout(10):
            await serving


async def reply_of(reader: StreamReader) -> bytes:
    async with asyncio.timeout(10):
        return await reader.readuntil(BODY)


async def test_a_connection_knows_whose_it_is_and_whether_it_answers(running: Running) -> None:
    async with running.connection() as (reader, writer), running.connection():
        await until(lambda: len(running.notes) == 2)
        assert running.notes == [("open", "127.0.0.1", False)] * 2
        writer.write(GET + GET)
        await until(lambda: len(running.server.requests) == 1)
        running.may_answer.set()
        for _ in range(2):
            assert b"date: " in await reply_of(reader)
        # The second request is in progress when the first is answered: it was sent behind it.
        assert running.notes[2:] == [("answered", True, False), ("answered", False, False)]
    await until(lambda: not running.server.requests)


async def test_a_reply_may_be_complete_before_the_body_that_it_answers(running: Running) -> None:
    running.may_answer.set()
    async with running.connection() as (reader, writer):
        writer.write(LONG_POST)
        await reply_of(reader)
    assert running.notes[1:] == [("answered", False, True)]


async def test_what_is_no_http_gets_an_answer_of_ours_and_the_end(running: Running) -> None:
    async with running.connection() as (reader, writer), asyncio.timeout(10):
        writer.write(b"nonsense\r\n\r\n")
        reply = await reader.read()
    assert running.notes[1:] == [("invalid",)]
    assert reply.startswith(b"HTTP/1.1 418 ")
    assert reply.endswith(b"\r\n\r\n!")


async def test_nothing_of_ours_is_mixed_into_a_reply_that_has_begun(running: Running) -> None:
    running.may_answer.set()
    async with running.connection() as (reader, writer), asyncio.timeout(10):
        writer.write(LONG_POST)
        await reply_of(reader)
        (connection,) = running.server.server_state.connections
        connection.reply_and_close(418, [("content-length", "1")], b"!")
        assert await reader.read() == b""


async def test_head_and_body_of_a_reply_reach_the_system_together(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []

    class Noted:
        def __init__(self, transport: Transport) -> None:
            self._transport = transport

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

        def write(self, data: bytes) -> None:
            written.append(data)
            self._transport.write(data)

    def noted(transport: Any) -> WriteCoalescing:
        return WriteCoalescing(Noted(transport))  # type: ignore[arg-type]

    monkeypatch.setattr(http1, "WriteCoalescing", noted)
    running.may_answer.set()
    async with running.connection() as (reader, writer):
        writer.write(GET)
        reply = await reply_of(reader)
    assert [data for data in written if data] == [reply]


async def test_a_connection_that_comes_as_the_port_closes_is_answered(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on systems that cannot hold connections back.
    monkeypatch.setattr(uvicorn_internals, "hold_back", lambda listening: False)
    running.may_answer.set()
    port = running.server.servers[0].sockets[0].getsockname()[1]
    stopping = asyncio.create_task(running.server.stop_listening())
    await asyncio.sleep(0)
    # This holds the loop up: at its next look it finds the connection, and that it is time.
    late = socket.create_connection(("127.0.0.1", port))
    time.sleep(0.05)  # noqa: ASYNC251 -- see above
    reader, writer = await asyncio.open_connection(sock=late)
    writer.write(GET)
    assert b"200 OK" in await reply_of(reader)
    await hang_up(writer)
    await stopping


async def test_signals_stay_with_who_had_them(running: Running) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        assert signal.getsignal(number) != running.server.handle_exit


async def test_the_server_looks_at_its_clock_in_our_loop(running: Running) -> None:
    await until(lambda: len(running.server.ticks) > 2)
    assert set(running.server.ticks) == {0}, "uvicorn's own loop counts"
