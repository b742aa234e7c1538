"""uvicorn with bounds of ours: time for a head, connections per address, errors in our shape."""

import asyncio
import contextlib
import logging
import signal
from collections import Counter
from typing import Any

import h11
import orjson
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from common.errors import InvalidRequest, Overloaded, ServingError
from common.loopback import is_loopback
from gateway.errors import envelope
from gateway.middleware.access_log import note_refusal
from gateway.middleware.edges import MAX_HEAD_BYTES
from gateway.middleware.request_context import new_request_id
from gateway.settings import GatewaySettings
from gateway.transport.drain import Drain
from gateway.transport.fd_limit import fit_connections
from gateway.transport.write_coalescing import WriteCoalescing

IDLE_TIMEOUT_S = 75
BACKLOG = 1024
TICK_S = 1  # how old the `date` header may be
# SIGBREAK is Windows' Ctrl-Break, the only one that reaches a process group there.
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)
]

log = logging.getLogger(__name__)


class BoundedProtocol(H11Protocol):  # type: ignore[misc]  # uvicorn is not typed for us
    """One connection."""

    settings: GatewaySettings
    most_connections: int
    per_address: Counter[str]
    # Connections without a request, the one that is idle longest first.
    idle: dict["BoundedProtocol", None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._address = ""
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._upload_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(WriteCoalescing(transport))
        self._address = self.client[0] if self.client else ""
        self.per_address[self._address] += 1
        self.idle[self] = None
        self._wait_for_head()
        crowded = (
            not is_loopback(self._address)
            and self.per_address[self._address] > self.settings.max_connections_per_address
        )
        full = len(self.connections) > self.most_connections
        if crowded or (full and not self._make_room()):
            self._refuse(503, Overloaded("too many connections", retry_after_s=1))

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        for timer in (self._stall_timer, self._upload_timer):
            if timer is not None:
                timer.cancel()
        self.idle.pop(self, None)
        self.per_address[self._address] -= 1
        if self.per_address[self._address] <= 0:
            del self.per_address[self._address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_timer is None and not self._busy():
            self._wait_for_head()
        super().data_received(data)
        if self._busy():
            self._head_arrived()
            self.idle.pop(self, None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._busy():
            self.idle[self] = None
        if self.conn.their_state is h11.SEND_BODY and self._upload_timer is None:
            # It is read on for a while: a client that is reset while it sends never sees the reply.
            self._upload_timer = self.loop.call_later(
                self.settings.body_timeout_s, self.transport.abort
            )

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(self.settings.write_stall_s, self._cut)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def send_400_response(self, msg: str) -> None:
        """uvicorn's own answer to what is no HTTP is plain text."""
        self._refuse(400, InvalidRequest("this is not a valid HTTP request"))

    def _make_room(self) -> bool:
        """Close the connection that is idle longest; False if all are in use."""
        oldest = next((one for one in self.idle if one is not self), None)
        if oldest is None:
            return False
        del self.idle[oldest]
        oldest.transport.close()
        return True

    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(self.settings.header_timeout_s, self._too_slow)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self._busy() and not self.transport.is_closing():
            self._refuse(408, InvalidRequest("the request's head did not arrive in time"))

    def _cut(self) -> None:
        log.info("a client stopped reading: %s", self._address)
        # A close would wait for the reader.
        self.transport.abort()

    def _refuse(self, status: int, error: ServingError) -> None:
        request_id = new_request_id(None)
        if self.settings.access_log:
            note_refusal(request_id, self._address, status, error)
        body = orjson.dumps(envelope(error, request_id))
        head = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("x-request-id", request_id),
            ("connection", "close"),
        ]
        with contextlib.suppress(h11.LocalProtocolError):
            self.transport.write(self.conn.send(h11.Response(status_code=status, headers=head)))
            self.transport.write(self.conn.send(h11.Data(data=body)))
            self.transport.write(self.conn.send(h11.EndOfMessage()))
        self.transport.close()


class GatewayServer(uvicorn.Server):  # type: ignore[misc]  # uvicorn is not typed for us
    """Runs the app and owns the signals: the first drains, the second ends."""

    def __init__(self, app: Any, settings: GatewaySettings, drain: Drain) -> None:
        most, backlog = fit_connections(settings.max_connections, BACKLOG)
        bounds = {
            "settings": settings,
            "most_connections": most,
            "per_address": Counter(),
            "idle": {},
        }
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=type("Protocol", (BoundedProtocol,), bounds),
                ws="none",
                loop="asyncio",
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
                timeout_keep_alive=IDLE_TIMEOUT_S,
                timeout_graceful_shutdown=5,
                access_log=False,
                server_header=False,
                # Or any local client could claim another address by X-Forwarded-For.
                proxy_headers=False,
                log_config=None,
                backlog=backlog,
            )
        )
        self._settings = settings
        self._drain = drain
        self._draining: asyncio.Task[None] | None = None

    def capture_signals(self) -> Any:
        """uvicorn's handlers would cut streams and skip the lifespan on a second signal."""
        return contextlib.nullcontext()

    async def serve(self, sockets: Any = None) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(self._on_signal))
        await super().serve(sockets)

    async def main_loop(self) -> None:
        """uvicorn's wakes up ten times a second, to see whether it is to end."""
        while not await self.on_tick(0):
            await _sleep_unless(self._drain.expired, TICK_S)

    def _on_signal(self) -> None:
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._go_away())
        else:
            self._drain.expire()
            self.should_exit = True

    async def _go_away(self) -> None:
        drain, settings = self._drain, self._settings
        log.info("draining")
        drain.begun = True
        # Load balancers notice late: requests are accepted a while longer. Below a supervisor
        # there is none, and an idle gateway need not wait.
        alone = settings.exit_with_parent and not self.server_state.tasks
        await _sleep_unless(drain.expired, 0 if alone else settings.drain_accept_s)
        # Listening goes on: new work is told to come back, not met by a closed port.
        drain.refusing = True
        deadline = asyncio.get_running_loop().time() + settings.drain_s
        while self.server_state.tasks and asyncio.get_running_loop().time() < deadline:
            await asyncio.wait(set(self.server_state.tasks), timeout=0.5)
        drain.expire()
        self.should_exit = True


async def _sleep_unless(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
