"""The gateway under real uvicorn on a real port, in the test's own event loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from gateway.app import create_app
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.transport.server import GatewayServer
from tests.contract.documented import require_documented
from tests.contract.scripted_worker import ScriptedWorker

SOON_S = 10.0


@dataclass
class RunningGateway:
    """
    Args:
        http: a client of it, which takes no reply that the API's description lacks.
        server: its uvicorn server, signals not installed.
    """

    port: int
    http: httpx.AsyncClient
    server: GatewayServer
    services: Services

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def raw(
        self, *, limit: int = 2**20
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A bare connection, for what no client library would send."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=limit)
        try:
            yield reader, writer
        finally:
            await hang_up(writer)


@asynccontextmanager
async def running_gateway(
    workers: Sequence[ScriptedWorker], **settings: Any
) -> AsyncIterator[RunningGateway]:
    """A gateway in front of `workers` (started already), once it sees all of them.

    Args:
        settings: by their names; and `verify`, what its client trusts where it speaks HTTPS.
    """
    verify = settings.pop("verify", True)
    addresses = ",".join(worker.address for worker in workers)
    # Without a wait for workers, so that tests of lost ones need not wait either.
    default = {"port": 0, "worker_wait_s": 0}
    targets = {"chat_workers": addresses, "embed_workers": addresses}
    found = GatewaySettings(_env_file=None, **{**default, **targets, **settings})
    app = create_app(found)
    services: Services = app.state.services
    server = GatewayServer(app, services)
    # Not GatewayServer.serve: it would take pytest's signals.
    serving = asyncio.create_task(uvicorn.Server.serve(server))
    try:
        await until(lambda: server.started or serving.done())
        if serving.done():
            await serving
        at = server.servers[0].sockets[0].getsockname()
        port, path = (at[1], None) if isinstance(at, tuple) else (0, at)
        pools = (services.pool.chat, services.pool.embed)
        await until(lambda: all(len(pool.serving) == len(workers) for pool in pools))
        await until(
            lambda: all(endpoint.status.models for pool in pools for endpoint in pool.endpoints)
        )
        scheme = "http" if found.https_cert is None else "https"
        async with httpx.AsyncClient(
            base_url="http://localhost" if path else f"{scheme}://127.0.0.1:{port}",
            transport=httpx.AsyncHTTPTransport(uds=path, verify=verify, trust_env=False),
            timeout=30,
            trust_env=False,
            event_hooks={"response": [require_documented]},
        ) as http:
            yield RunningGateway(port, http, server, services)
    finally:
        server.should_exit = True
        services.drain.expire()
        async with asyncio.timeout(SOON_S):
            await serving


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close the connection, whatever the other side has done to it."""
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def until(holds: Callable[[], bool], within_s: float = SOON_S) -> None:
    """Return once `holds()` is true.

    Raises:
        TimeoutError: it did not become true in time.
    """
    async with asyncio.timeout(within_s):
        async for _ in ticks():
            if holds():
                return


async def ticks() -> AsyncIterator[None]:
    """What others do, other processes too, can only be asked, now and then."""
    while True:
        yield
        await asyncio.sleep(0.01)


async def soon(event: Awaitable[Any], within_s: float = SOON_S) -> None:
    """Wait for `event`, not for ever."""
    async with asyncio.timeout(within_s):
        await event
