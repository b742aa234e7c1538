"""What the gateway changes inside uvicorn; no other module uses internals of uvicorn or h11.

uvicorn accepts another class for connections (`Config(http=...)`), but has no limits for them: no
time for headers, no number per address, and no way to use our errors for invalid HTTP. It also
handles signals itself, wakes up ten times a second, and opens one port or socket in a way of its
own. So this module depends on:

- `H11Protocol`: asyncio's callbacks, and beside them `on_response_complete`, `send_400_response`,
  `cycle.response_complete`, `cycle.scope`, `client`, `conn` (h11's `Connection`), `loop` and
  `transport`; and that a reply says `Connection: close` where its request does;
- that the headers and the body of a reply are written separately, and the former begin with
  `HTTP/1.1 ` (`write_coalescing.py`);
- `Server`: `capture_signals`, `startup`, `main_loop`, `on_tick`, `lifespan`, `servers`, `started`
  and `server_state`.

Tried with uvicorn 0.54.0 and h11 0.16.0; `tests/contract/test_uvicorn_internals.py` guards it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from common.loopback import UNIX
from gateway.transport.closing_ports import HANDSHAKE_S, hold_back
from gateway.transport.write_coalescing import WriteCoalescing

log = logging.getLogger(__name__)
TICK_S = 1  # largest age of the `date` header
STARTUP_FAILURE = 3  # uvicorn's exit status
CLOSE = (b"connection", b"close")


class Http1Connection(H11Protocol):  # type: ignore[misc]  # uvicorn is not typed for us
    """One connection, with hooks for a subclass that limits it."""

    client: tuple[str, int] | None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(WriteCoalescing(transport))
        if address_of(transport) == UNIX:
            self.client = (UNIX, 0)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.on_answered()

    def send_400_response(self, msg: str) -> None:
        self.on_invalid()

    def on_answered(self) -> None:
        """Called when a reply is complete; the next request may be in progress already."""

    def on_invalid(self) -> None:
        """Called for data that is not HTTP; it should call `reply_and_close`."""
        raise NotImplementedError

    @property
    def is_answering(self) -> bool:
        """Whether a request is in progress."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_sent_a_body(self) -> bool:
        """Whether more of a request's body is to come, even if its reply is complete."""
        return self.conn.their_state is h11.SEND_BODY

    def close_after_this(self) -> None:
        """Let the reply to the request in progress end the connection, and say so."""
        if CLOSE not in self.cycle.scope["headers"]:
            self.cycle.scope["headers"].append(CLOSE)

    def reply_and_close(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer outside of any request; nothing is sent if a reply has begun."""
        with contextlib.suppress(h11.LocalProtocolError):
            self.transport.write(self.conn.send(h11.Response(status_code=status, headers=headers)))
            self.transport.write(self.conn.send(h11.Data(data=body)))
            self.transport.write(self.conn.send(h11.EndOfMessage()))
        self.transport.close()


def address_of(transport: asyncio.Transport) -> str:
    """The address of the client; `UNIX` for any of a Unix socket, "" if it has left already."""
    if not isinstance(transport.get_extra_info("sockname"), tuple):
        return UNIX
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""


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
        # A timer runs after what the selector found: the connections that wait are accepted before.
        # Where none can be held back, one that comes in between is lost.
        wait_s = HANDSHAKE_S if any(held_back) else 0.001
        asyncio.get_running_loop().call_later(wait_s, close)
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
