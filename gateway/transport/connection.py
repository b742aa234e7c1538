"""One connection and its limits: time for headers, number per address, errors in our format."""

import asyncio
import logging
from collections import Counter
from typing import Any

import orjson

from common.error_texts import ErrorText
from common.errors import InvalidRequest, Overloaded, ServingError
from common.loopback import is_loopback
from gateway.errors import envelope
from gateway.middleware.access_log import note_refusal
from gateway.middleware.request_context import new_request_id
from gateway.settings import GatewaySettings
from gateway.transport.proxies import TrustedProxies
from gateway.transport.uvicorn_internals import Http1Connection

log = logging.getLogger(__name__)


class BoundedConnection(Http1Connection):
    """`bounded_by` makes a subclass for a server; its connections share the attributes below."""

    settings: GatewaySettings
    proxies: TrustedProxies
    most_connections: int
    per_address: Counter[str]
    # Connections without a request, the longest idle one first.
    idle: dict["BoundedConnection", None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._upload_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.per_address[self.address] += 1
        self.idle[self] = None
        self._wait_for_head()
        crowded = (
            not is_loopback(self.address)
            # Behind it are many clients.
            and self.address not in self.proxies
            and self.per_address[self.address] > self.settings.max_connections_per_address
        )
        full = self.n_open > self.most_connections
        if crowded or (full and not self._make_room()):
            self._refuse(503, Overloaded(ErrorText("too_many_connections"), retry_after_s=1))

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        for timer in (self._stall_timer, self._upload_timer):
            if timer is not None:
                timer.cancel()
        self.idle.pop(self, None)
        self.per_address[self.address] -= 1
        if self.per_address[self.address] <= 0:
            del self.per_address[self.address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_timer is None and not self.is_answering:
            self._wait_for_head()
        super().data_received(data)
        if self.is_answering:
            self._head_arrived()
            self.idle.pop(self, None)

    def on_answered(self) -> None:
        if not self.is_answering:
            self.idle[self] = None
        if self.is_sent_a_body and self._upload_timer is None:
            # Reading goes on: a client that is reset while it sends never reads the reply.
            self._upload_timer = self.loop.call_later(
                self.settings.body_timeout_s, self.transport.abort
            )

    def on_invalid(self) -> None:
        self._refuse(400, InvalidRequest(ErrorText("not_http")))

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(self.settings.write_stall_s, self._cut)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _make_room(self) -> bool:
        """Close the longest idle connection; False if all are in use."""
        oldest = next((one for one in self.idle if one is not self), None)
        if oldest is None:
            return False
        del self.idle[oldest]
        oldest.transport.close()
        return True

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(self.settings.header_timeout_s, self._too_slow)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self.is_answering and not self.transport.is_closing():
            self._refuse(408, InvalidRequest(ErrorText("head_too_slow")))

    def _cut(self) -> None:
        log.info("a client stopped reading: %s", self.address)
        # `close` would wait until the client reads.
        self.transport.abort()

    def _refuse(self, status: int, error: ServingError) -> None:
        request_id = new_request_id(None)
        if self.settings.access_log:
            note_refusal(request_id, self.address, status, error)
        body = orjson.dumps(envelope(error, request_id))
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("x-request-id", request_id),
            ("connection", "close"),
        ]
        self.reply_and_close(status, headers, body)


def bounded_by(
    settings: GatewaySettings, proxies: TrustedProxies, most_connections: int
) -> type[BoundedConnection]:
    """The class for the connections of one server."""
    shared = {
        "settings": settings,
        "proxies": proxies,
        "most_connections": most_connections,
        "per_address": Counter[str](),
        "idle": {},
    }
    return type("BoundedConnection", (BoundedConnection,), shared)
