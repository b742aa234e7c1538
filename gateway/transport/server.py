"""The gateway's server: runs the app, and handles signals: the first drains, the second ends."""

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import Any

import uvicorn

from gateway.services import Services
from gateway.transport.connection import bounded_by
from gateway.transport.fd_limit import fit_connections
from gateway.transport.listeners import listen
from gateway.transport.uvicorn_internals import QuietServer, sleep_unless

IDLE_TIMEOUT_S = 75
BACKLOG = 1024
# Within which requests arrive that were sent when the port was still open.
LAST_REQUESTS_S = 1.0
# SIGBREAK is Windows' Ctrl-Break, the only signal that reaches a process group there.
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)
]

log = logging.getLogger(__name__)


class GatewayServer(QuietServer):
    """Handles signals itself: uvicorn would cut off streams, and skip the lifespan at a second."""

    def __init__(self, app: Any, services: Services) -> None:
        settings = services.settings
        most, backlog = fit_connections(settings.max_connections, BACKLOG)
        config = uvicorn.Config(
            app,
            http=bounded_by(settings, services.proxies, most),
            ws="none",
            loop="asyncio",
            timeout_keep_alive=IDLE_TIMEOUT_S,
            timeout_graceful_shutdown=5,
            access_log=False,
            server_header=False,
            # Otherwise any local client could claim another address by X-Forwarded-For.
            proxy_headers=False,
            log_config=None,
            backlog=backlog,
        )
        super().__init__(config, services.drain.expired)
        self._settings = settings
        self._drain = services.drain
        self._draining: asyncio.Task[None] | None = None
        self._path = settings.socket

    async def serve(self, sockets: Any = None) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(self._on_signal))
        await super().serve(sockets)

    async def listen(self, connect: Callable[[], Any]) -> list[asyncio.Server]:
        return await listen(self._settings, connect, self.config.backlog)

    async def stop_listening(self) -> None:
        self._leave_path()
        await super().stop_listening()

    async def shutdown(self, sockets: Any = None) -> None:
        self._leave_path()
        await super().shutdown(sockets)

    def _leave_path(self) -> None:
        """Remove the socket's name while it listens: later it might be that of the next server."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

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
        # Load balancers notice late, so requests are accepted a while longer. Under a supervisor
        # there is none, and an idle gateway need not wait.
        alone = settings.exit_with_parent and not self.requests
        await sleep_unless(drain.expired, 0 if alone else settings.drain_accept_s)
        if settings.exit_with_parent:
            # The port stays open: new requests get a 503 with Retry-After, no refused connection.
            drain.refusing = True
        else:
            # A proxy that is refused a connection tries another gateway, but it passes a 503 on.
            # What comes by connections that it has already cannot be tried elsewhere.
            await self.stop_listening()
            await sleep_unless(drain.expired, LAST_REQUESTS_S if self.n_open else 0)
        deadline = asyncio.get_running_loop().time() + settings.drain_s
        while asyncio.get_running_loop().time() < deadline:
            running = self.requests | drain.background
            if not running:
                break
            await asyncio.wait(running, timeout=0.5)
        drain.expire()
        self.should_exit = True
