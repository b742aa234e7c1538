"""One of two workers at a time is replaced while clients go on asking: nobody notices."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psutil

from gateway.app import create_app
from gateway.pool import Pool
from gateway.settings import GatewaySettings
from tests.contract.running_gateway import until
from tests.running_stack import KEPT_VARIABLES, ROOT, free_port

N_CLIENTS = 4


class Worker:
    """A real chat worker on a port of its own, that can be replaced."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        kept = {k: v for k, v in psutil.Process().environ().items() if k in KEPT_VARIABLES}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "chat_worker"),
            cwd=ROOT,
            env=kept | {"CHAT_WORKER_PORT": str(self.port)},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )

    async def drain(self) -> None:
        """Ask it to go and wait until it has."""
        assert self._process is not None
        self._process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
        assert await asyncio.wait_for(self._process.wait(), 40) == 0

    async def kill(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def two_workers() -> AsyncIterator[list[Worker]]:
    workers = [Worker(), Worker()]
    for worker in workers:
        await worker.start()
    try:
        yield workers
    finally:
        for worker in workers:
            await worker.kill()


@asynccontextmanager
async def gateway_of(workers: list[Worker]) -> AsyncIterator[tuple[httpx.AsyncClient, Pool]]:
    addresses = ",".join(f"127.0.0.1:{worker.port}" for worker in workers)
    app = create_app(GatewaySettings(_env_file=None, chat_workers=addresses, embed_workers=""))
    pool = app.state.services.pool
    transport = httpx.ASGITransport(app=app)
    async with (
        pool.watching(),
        httpx.AsyncClient(transport=transport, base_url="http://x", timeout=120) as http,
    ):
        await until(lambda: len(pool.chat.serving) == len(workers), within_s=60)
        yield http, pool


async def test_no_request_fails_and_no_stream_is_cut() -> None:
    over = asyncio.Event()
    n_done = 0

    async def client(http: httpx.AsyncClient, number: int) -> None:
        nonlocal n_done
        body: dict[str, Any] = {"max_tokens": 40, "ignore_eos": True, "stream": number % 2 == 0}
        while not over.is_set():
            # Another conversation each time: all workers get some.
            body["messages"] = [{"role": "user", "content": f"Go on {number} {n_done}"}]
            reply = await http.post("/v1/chat/completions", json=body)
            assert reply.status_code == httpx.codes.OK, reply.text
            assert not body["stream"] or reply.text.endswith("data: [DONE]\n\n"), reply.text[-400:]
            n_done += 1

    async def answered(n: int) -> None:
        """Return when that many more requests are done."""
        goal = n_done + n
        await until(lambda: n_done >= goal, within_s=60)

    async with (
        two_workers() as workers,
        gateway_of(workers) as (http, pool),
        asyncio.TaskGroup() as clients,
    ):
        for number in range(N_CLIENTS):
            clients.create_task(client(http, number))
        for worker in workers:
            await answered(N_CLIENTS)
            await worker.drain()
            await worker.start()
            await until(lambda: len(pool.chat.serving) == len(workers), within_s=60)
        over.set()
    assert n_done > 2 * N_CLIENTS
