"""Going away: as a process with real signals, and phase by phase."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import RunningGateway, hang_up, soon, ticks, until
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import delta, finished, started
from tests.running_stack import KEPT_VARIABLES, free_port

ROOT = Path(__file__).resolve().parent.parent.parent
CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hi"}], "stream": True}


class Talk:
    """A generation that says one word and waits to be let go."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(
        self, request: chat_pb2.GenerateRequest
    ) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        yield delta("x")
        await self.go_on.wait()
        yield finished(1)


@asynccontextmanager
async def gateway_process(
    worker: ScriptedWorker, **env: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    port = free_port()
    kept = {k: v for k, v in psutil.Process().environ().items() if k in KEPT_VARIABLES}
    own = {
        "GATEWAY_PORT": str(port),
        "CHAT_WORKERS": worker.address,
        "EMBED_WORKERS": worker.address,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        cwd=ROOT,
        env=kept | own | env,
        # A supervisor keeps it open.
        stdin=subprocess.PIPE if "EXIT_WITH_PARENT" in env else subprocess.DEVNULL,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http:
            await answers(http, "/health/ready", 200)
            yield process, http
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def status(http: httpx.AsyncClient, path: str) -> int:
    """0 if nobody answers."""
    try:
        return (await http.get(path, headers={"connection": "close"})).status_code
    except httpx.TransportError:
        return 0


async def answers(http: httpx.AsyncClient, path: str, wanted: int) -> None:
    """Return once `path` has that status."""
    async with asyncio.timeout(30):
        async for _ in ticks():
            if await status(http, path) == wanted:
                return


def ask_to_stop(process: asyncio.subprocess.Process) -> None:
    process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))


async def test_a_running_stream_ends_whole_and_readiness_goes_first(
    worker: ScriptedWorker,
) -> None:
    talk = Talk()
    worker.generate = talk
    env = {"GATEWAY_DRAIN_ACCEPT_S": "1", "EXIT_WITH_PARENT": "1"}
    async with (
        gateway_process(worker, **env) as (process, http),
        http.stream("POST", CHAT, json=BODY) as reply,
    ):
        lines = reply.aiter_lines()
        await anext(lines)
        ask_to_stop(process)
        await answers(http, "/health/ready", 503)
        assert await status(http, "/health/live") == 200, "it is accepting still"
        refused = await first_refusal(http)
        assert refused.headers["retry-after"]
        assert refused.headers["connection"] == "close"
        talk.go_on.set()
        rest = [line async for line in lines]
        assert "data: [DONE]" in rest
        assert await asyncio.wait_for(process.wait(), 15) == 0


async def test_without_a_supervisor_a_proxy_is_refused_a_connection_and_loses_no_request(
    worker: ScriptedWorker,
) -> None:
    worker.generate = Talk()
    async with gateway_process(worker, GATEWAY_DRAIN_ACCEPT_S="0") as (process, http):
        asking = asyncio.create_task(http.post(CHAT, json=BODY))
        await worker.next_call()
        kept = [httpx.AsyncClient(base_url=http.base_url, trust_env=False) for _ in range(2)]
        for client in kept:
            assert (await client.get("/health/live")).status_code == 200
        ask_to_stop(process)
        # A proxy tries the next gateway then, but it passes a 503 on.
        await answers(http, "/health/live", 0)
        for client in kept:
            # What has been sent already cannot be tried elsewhere.
            reply = await client.post("/v1/embeddings", json={"input": "x"})
            assert (reply.status_code, reply.headers["connection"]) == (200, "close")
            await client.aclose()
        assert process.returncode is None
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert await asyncio.wait_for(process.wait(), 15) == 0


async def first_refusal(http: httpx.AsyncClient) -> httpx.Response:
    """The first 503 for new work, which is answered, not cut, for as long as the gateway drains."""
    async with asyncio.timeout(10):
        async for _ in ticks():
            reply = await http.post(
                "/v1/embeddings", json={"input": "x"}, headers={"connection": "close"}
            )
            if reply.status_code == 503:
                return reply
    raise AssertionError("ticks never end")


async def test_a_stream_that_does_not_end_gets_an_error_event(worker: ScriptedWorker) -> None:
    worker.generate = Talk()
    env = {"GATEWAY_DRAIN_ACCEPT_S": "0", "GATEWAY_DRAIN_S": "0.5"}
    async with (
        gateway_process(worker, **env) as (process, http),
        http.stream("POST", CHAT, json=BODY) as reply,
    ):
        lines = reply.aiter_lines()
        await anext(lines)
        ask_to_stop(process)
        rest = [line async for line in lines if line]
        assert json.loads(rest[-1][6:])["error"]["code"] == "not_ready"
        assert await asyncio.wait_for(process.wait(), 15) == 0
    await soon(worker.calls[0].cancelled.wait())


async def test_a_plain_request_that_does_not_end_gets_its_503(worker: ScriptedWorker) -> None:
    worker.generate = Talk()
    env = {"GATEWAY_DRAIN_ACCEPT_S": "0", "GATEWAY_DRAIN_S": "0.5"}
    async with gateway_process(worker, **env) as (process, http):
        asking = asyncio.create_task(http.post(CHAT, json=BODY | {"stream": False}))
        await worker.next_call()
        ask_to_stop(process)
        assert (await asking).status_code == 503
        assert await asyncio.wait_for(process.wait(), 15) == 0


async def test_a_second_signal_ends_at_once_and_still_in_order(worker: ScriptedWorker) -> None:
    worker.generate = Talk()
    async with (
        gateway_process(worker, GATEWAY_DRAIN_ACCEPT_S="30") as (process, http),
        http.stream("POST", CHAT, json=BODY) as reply,
    ):
        lines = reply.aiter_lines()
        await anext(lines)
        ask_to_stop(process)
        await answers(http, "/health/ready", 503)
        ask_to_stop(process)
        rest = [line async for line in lines if line]
        assert '"error"' in rest[-1]
        assert await asyncio.wait_for(process.wait(), 15) == 0


async def test_an_idle_gateway_with_a_stuck_reader_leaves_in_time(worker: ScriptedWorker) -> None:
    async def floods(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        while True:
            yield delta("x" * 10_000)

    worker.generate = floods
    env = {"GATEWAY_DRAIN_ACCEPT_S": "0", "GATEWAY_DRAIN_S": "0.5", "WRITE_STALL_SECONDS": "60"}
    async with gateway_process(worker, **env) as (process, http):
        _, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port, limit=64)
        content = json.dumps(BODY).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        await worker.next_call()
        ask_to_stop(process)
        assert await asyncio.wait_for(process.wait(), 20) == 0
        await hang_up(writer)


async def test_connections_are_closed_after_their_reply_once_it_leaves(
    gateway: RunningGateway,
) -> None:
    gateway.services.drain.begun = True
    reply = await gateway.http.get("/health/live")
    assert reply.headers["connection"] == "close"
    await until(lambda: not gateway.server.server_state.connections)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot hold connections back")
async def test_who_connects_while_the_port_closes_is_answered_or_refused_and_never_reset(
    gateway: RunningGateway,
) -> None:
    loop = asyncio.get_running_loop()
    clients = [socket.socket() for _ in range(3)]

    def connect() -> None:
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", gateway.port))

    async def outcome(client: socket.socket) -> str:
        with client:
            try:
                await loop.sock_connect(client, ("127.0.0.1", gateway.port))
            except ConnectionRefusedError:
                return "refused"
            await loop.sock_sendall(client, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return "answered" if b" 200 " in await loop.sock_recv(client, 1000) else "failed"

    # They come after the loop looked who is there, and before it closes the port: it is busy.
    loop.call_soon(time.sleep, 0.01)
    loop.call_later(0.0005, connect)
    await gateway.server.stop_listening()
    outcomes = await asyncio.gather(*map(outcome, clients))
    assert set(outcomes) <= {"answered", "refused"}
