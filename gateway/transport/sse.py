"""Server-sent events: framing, comments during silence, and an error event where a stream breaks.

The headers of the response are held back until the first event of the answer, so that an early
failure has its HTTP status. If that takes long, the headers are sent with a comment, because
proxies close silent connections and people want to see the progress of a load. A failure after that
is an `error` event, which SDKs raise.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from common.error_texts import ErrorText
from common.errors import BackendFailure, Cancelled, NotReady, ServingError
from gateway.errors import error_body, error_response
from gateway.middleware.request_context import context_of
from gateway.translate.progress import SILENCE
from gateway.transport.disconnect import cancel_on_disconnect

# Shortest time between two comments with news, such as the progress of a load.
NEWS_S = 0.5
DONE = b"data: [DONE]\n\n"
END = {"type": "http.response.body", "body": b"", "more_body": False}

log = logging.getLogger(__name__)


def frame(event: bytes) -> bytes:
    return b"data: " + event + b"\n\n"


def named_frame(event: bytes) -> bytes:
    """The frame of an event that begins with its type, which becomes the name of the event."""
    begin = len(b'{"type":"')
    name = event[begin : event.index(b'"', begin)]
    return b"event: " + name + b"\n" + frame(event)


def one_error(body: dict[str, Any]) -> Iterable[bytes]:
    return (orjson.dumps(body),)


@dataclass(frozen=True)
class StreamLimits:
    """Times in seconds: silence before a comment, and the time after which the headers are sent for
    news of a queue or load."""

    comment_s: float
    news_after_s: float = 2.0


class EventStream(Response):
    """Sends the events of `source`, each the JSON bytes of one `data:` line.

    Args:
        source: the answer; its first item comes when the worker has begun.
        waiting: the text of a comment while the client waits, such as the queue position; None
            in a format without comments.
        headers: names and values that are known when the headers are sent.
        frame: makes an event of JSON bytes.
        done: the last bytes of a complete answer.
        broken: the last events of a broken answer, from the envelope of the error.
        content_type: of the stream.
    """

    def __init__(
        self,
        source: AsyncGenerator[bytes, None],
        limits: StreamLimits,
        waiting: Callable[[], str] | None,
        headers: Callable[[], list[tuple[bytes, bytes]]],
        frame: Callable[[bytes], bytes] = frame,
        done: bytes = DONE,
        broken: Callable[[dict[str, Any]], Iterable[bytes]] = one_error,
        content_type: bytes = b"text/event-stream; charset=utf-8",
    ) -> None:
        super().__init__()
        self._source = source
        self._limits = limits
        self._waiting = waiting
        self._late_headers = headers
        self._frame = frame
        self._done = done
        self._broken = broken
        self._content_type = content_type
        self._head_sent = False
        self._sent_s = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        comments = asyncio.ensure_future(self._break_silence(send))
        try:
            await cancel_on_disconnect(Request(scope, receive), self._write(scope, receive, send))
        except Cancelled:
            pass  # the client is gone
        except NotReady as error:
            await self._fail(error, scope, receive, send)
        finally:
            comments.cancel()

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._source) as events:
                async for event in events:
                    await self._put(send, self._frame(event))
            await self._put(send, self._done)
        except ServingError as error:
            await self._fail(error, scope, receive, send)
        except Exception:
            # The outermost frame of the stream: the error is logged, and the client gets an event.
            if not self._head_sent:
                raise
            log.exception("request %s failed in mid-stream", context_of(scope).request_id)
            failure = BackendFailure(ErrorText("gateway_failed"))
            await self._fail(failure, scope, receive, send)
        else:
            await send(END)

    async def _fail(self, error: ServingError, scope: Scope, receive: Receive, send: Send) -> None:
        """End a broken stream with an error event: never silently, never with [DONE]."""
        context_of(scope).note_error(error)
        if not self._head_sent:
            await error_response(error, scope)(scope, receive, send)
            return
        for event in self._broken(error_body(error, scope)):
            await self._put(send, self._frame(event))
        await send(END)

    async def _put(self, send: Send, data: bytes) -> None:
        if not self._head_sent:
            self._head_sent = True
            await send(self._head())
        self._sent_s = time.monotonic()
        await send({"type": "http.response.body", "body": data, "more_body": True})

    def _head(self) -> dict[str, object]:
        headers = [
            (b"content-type", self._content_type),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            *self._late_headers(),
        ]
        return {"type": "http.response.start", "status": 200, "headers": headers}

    async def _break_silence(self, send: Send) -> None:
        if self._waiting is None:
            return
        self._sent_s = time.monotonic()
        latest = SILENCE
        while True:
            await asyncio.sleep(min(self._limits.comment_s / 4, NEWS_S))
            silent_s, text = time.monotonic() - self._sent_s, self._waiting()
            news = text not in (latest, SILENCE)
            news_delay_s = NEWS_S if self._head_sent else self._limits.news_after_s
            if silent_s >= self._limits.comment_s or (news and silent_s >= news_delay_s):
                latest = text
                await self._put(send, f": {text}\n\n".encode())
