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
from gateway.transport.http1 import Http1Connection, address_of
from gateway.transport.proxies import TrustedProxies

# Then a client has to connect again, and may come to another gateway behind the same name.
MOST_REQUESTS = 10_000

log = logging.getLogger(__name__)


class BoundedConnection(Http1Connection):
    """`bounded_by` makes a subclass for a server; its connections share the attributes below."""

    settings: GatewaySettings
    proxies: TrustedProxies
    most_connections: int
    per_address: Counter[str]
    # Connections that are open, also those whose TLS is not agreed on yet.
    inside: set["BoundedConnection"]
    # Of these, those without a request, the longest idle one first.
    idle: dict["BoundedConnection", None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.address = ""
        self._n_answered = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._upload_timer: asyncio.TimerHandle | None = None

    def enter(self, transport: asyncio.Transport) -> bool:
        """Count the connection; False: there is no room for it."""
        self.address = address_of(transport)
        self.transport = transport
        self.per_address[self.address] += 1
        self.inside.add(self)
        self.idle[self] = None
        crowded = (
            not is_loopback(self.address)
            # Behind it are many clients.
            and self.address not in self.proxies
            and self.per_address[self.address] > self.settings.max_connections_per_address
        )
        full = len(self.inside) > self.most_connections
        return not (crowded or (full and not self._make_room()))

    def leave(self) -> None:
        """Undo that, unless it was done already."""
        if self not in self.inside:
            return
        self.inside.discard(self)
        self.idle.pop(self, None)
        self.per_address[self.address] -= 1
        if self.per_address[self.address] <= 0:
            del self.per_address[self.address]

    def connection_made(self, transport: asyncio.Transport) -> None:
        has_room = self in self.inside or self.enter(transport)
        super().connection_made(transport)
        self._wait_for_head()
        if not has_room:
            self._refuse(503, Overloaded(ErrorText("too_many_connections"), retry_after_s=1))

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        for timer in (self._stall_timer, self._upload_timer):
            if timer is not None:
                timer.cancel()
        self.leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_timer is None and not self.is_answering:
            self._wait_for_head()
        super().data_received(data)
        if self.is_answering:
            self._head_arrived()
            self.idle.pop(self, None)
            self._end_in_time()

    def on_answered(self) -> None:
        self._n_answered += 1
        if self.is_answering:
            self._end_in_time()
        else:
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

    def _end_in_time(self) -> None:
        if self._n_answered >= MOST_REQUESTS - 1:
            self.close_after_this()

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
        "inside": set(),
        "idle": {},
    }
    return type("BoundedConnection", (BoundedConnection,), shared)
