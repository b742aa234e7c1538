"""What the gateway changes inside uvicorn's server; `http1.py` has what it changes in connections.

uvicorn handles signals itself, wakes up ten times a second, and opens one port or socket in a way
of its own. So this module depends on `Server`: `capture_signals`, `startup`, `main_loop`,
`on_tick`, `lifespan`, `servers`, `started` and `server_state`.

Tried with uvicorn 0.54.0; `tests/contract/test_uvicorn_internals.py` guards it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import uvicorn

from gateway.transport.closing_ports import HANDSHAKE_S, hold_back

log = logging.getLogger(__name__)
TICK_S = 1  # largest age of the `date` header
STARTUP_FAILURE = 3  # uvicorn's exit status


class QuietServer(uvicorn.Server):  # type: ignore[misc]  # uvicorn is not typed for us
    """A server that does not handle signals, and sleeps until it should end.

    Args:
        may_end: set before `should_exit` is.
    """

    def __init__(self, config: uvicorn.Config, may_end: asyncio.Event) -> None:
        super().__init__(config)
        self._may_end = may_end

    @property
    def requests(self) -> set[asyncio.Task[None]]:
        """The requests in progress."""
        return self.server_state.tasks  # type: ignore[no-any-return]

    @property
    def n_open(self) -> int:
        """Connections of the server."""
        return len(self.server_state.connections)

    async def stop_listening(self) -> None:
        """Refuse new connections from now on; those that were made stay open."""
        closed = asyncio.Event()

        def close() -> None:
            for server in self.servers:
                server.close()
            closed.set()

        held_back = [hold_back(one) for server in self.servers for one in server.sockets]
        # Where none can be held back, one that comes after the last look is lost.
        wait_s = HANDSHAKE_S if any(held_back) else 0.001
        # A timer runs after what the selector found: the connections that wait are accepted before,
        # and one step later asyncio has given them to the server. It forgets those of a closed one,
        # which then are neither answered nor closed.
        loop = asyncio.get_running_loop()
        loop.call_later(wait_s, loop.call_soon, close)
        await closed.wait()

    async def listen(self, connect: Callable[[], Any]) -> list[asyncio.Server]:
        """Open what the server listens on.

        Args:
            connect: makes the protocol of a new connection.
        Raises:
            OSError: it cannot be opened.
        """
        loop = asyncio.get_running_loop()
        return [await loop.create_server(connect, self.config.host, self.config.port)]

    async def startup(self, sockets: Any = None) -> None:
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise SystemExit(STARTUP_FAILURE)

        def connect() -> Any:
            return self.config.http_protocol_class(
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )

        try:
            self.servers = await self.listen(connect)
        except OSError as error:
            log.error("cannot listen: %s", error)
            await self.lifespan.shutdown()
            raise SystemExit(1) from None
        for server in self.servers:
            log.info("listening on %s", [one.getsockname() for one in server.sockets])
        self.started = True

    def capture_signals(self) -> Any:
        return contextlib.nullcontext()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            await sleep_unless(self._may_end, TICK_S)


async def sleep_unless(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
