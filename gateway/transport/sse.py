"""Server-sent events: framing, comments in silence, and an end that is never silent.

The response's head is held back until the first piece of the answer, so that an early failure
keeps its HTTP status. If that takes long, the head goes out with a comment, because proxies cut
silent connections and people want to see how a load goes; a failure after that is an `error` event,
which SDKs raise.
"""

import asyncio
import logging
import math
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

# Between two comments with news, such as how far a load is.
NEWS_S = 0.5
DONE = b"data: [DONE]\n\n"
END = {"type": "http.response.body", "body": b"", "more_body": False}

log = logging.getLogger(__name__)


def frame(event: bytes) -> bytes:
    return b"data: " + event + b"\n\n"


def named_frame(event: bytes) -> bytes:
    """For APIs whose events begin with their type: it is the event's name too."""
    begin = len(b'{"type":"')
    name = event[begin : event.index(b'"', begin)]
    return b"event: " + name + b"\n" + frame(event)


def one_error(body: dict[str, Any]) -> Iterable[bytes]:
    return (orjson.dumps(body),)


@dataclass(frozen=True)
class StreamLimits:
    """In seconds: silence before a comment, and until news of a queue or load are worth sending
    the head for."""

    comment_s: float
    news_after_s: float = 2.0


class EventStream(Response):
    """Sends the events of `source`, each the JSON bytes of one `data:` line.

    Args:
        source: the answer; its first item comes when the worker has begun.
        waiting: what to say in a comment while nothing came yet, such as the queue position.
        headers: names and values that are known when the head is sent.
        frame: makes an event of JSON bytes.
        done: what a whole answer ends with.
        broken: the last events of a broken one, from an error's envelope.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        source: AsyncGenerator[bytes, None],
        limits: StreamLimits,
        waiting: Callable[[], str],
        headers: Callable[[], list[tuple[bytes, bytes]]],
        frame: Callable[[bytes], bytes] = frame,
        done: bytes = DONE,
        broken: Callable[[dict[str, Any]], Iterable[bytes]] = one_error,
    ) -> None:
        super().__init__()
        self._source = source
        self._limits = limits
        self._waiting = waiting
        self._late_headers = headers
        self._frame = frame
        self._done = done
        self._broken = broken
        self._head_sent = False
        self._sent_s = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        comments = asyncio.ensure_future(self._break_silence(send))
        try:
            await cancel_on_disconnect(Request(scope, receive), self._write(scope, receive, send))
        except Cancelled:
            pass  # nobody is left to be told
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
            # The stream's outermost frame: what broke is logged, and the client is told.
            if not self._head_sent:
                raise
            log.exception("request %s failed in mid-stream", context_of(scope).request_id)
            failure = BackendFailure(ErrorText("gateway_failed"))
            await self._fail(failure, scope, receive, send)
        else:
            await send(END)

    async def _fail(self, error: ServingError, scope: Scope, receive: Receive, send: Send) -> None:
        """A broken stream ends with an error event: never silently, never with [DONE]."""
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
        self._sent_s = asyncio.get_running_loop().time()
        await send({"type": "http.response.body", "body": data, "more_body": True})

    def _head(self) -> dict[str, object]:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            *self._late_headers(),
        ]
        return {"type": "http.response.start", "status": 200, "headers": headers}

    async def _break_silence(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        self._sent_s = loop.time()
        told = SILENCE
        while True:
            await asyncio.sleep(min(self._limits.comment_s / 4, NEWS_S))
            silent_s, text = loop.time() - self._sent_s, self._waiting()
            news = text not in (told, SILENCE)
            patience_s = NEWS_S if self._head_sent else self._limits.news_after_s
            if silent_s >= min(patience_s if news else math.inf, self._limits.comment_s):
                told = text
                await self._put(send, f": {text}\n\n".encode())
