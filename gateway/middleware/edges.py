"""The outermost middleware: request ids, unexpected errors, bounds of headers and bodies."""

import asyncio
import logging

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.error_texts import ErrorText
from common.errors import (
    BackendFailure,
    Cancelled,
    InvalidRequest,
    NotReady,
    RequestTooLarge,
    ServingError,
    UnsupportedEncoding,
)
from common.gc_tuning import GarbageCounter
from gateway.errors import error_response, id_headers, refuse, shorten
from gateway.middleware.body_budget import FILES
from gateway.middleware.limit_headers import limit_headers
from gateway.middleware.request_context import (
    API_PATHS,
    SCOPE_KEY,
    RequestContext,
    context_of,
    header,
    new_request_id,
)
from gateway.services import Services
from gateway.settings import GatewaySettings

MAX_HEADERS = 64
MAX_HEAD_BYTES = 16 * 1024
LARGE_BODIES = ("/embeddings", "/embed", "/rerank", "/reranking", "/score")

log = logging.getLogger(__name__)


class RequestIdMiddleware:
    """Gives every request an id, and every response the id of its request, whatever happens."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._drain = services.drain
        self._count_error = services.metrics.count_error
        self._error_language = services.settings.error_language

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_request_id(header(scope, b"x-request-id"))
        context = RequestContext(request_id, self._drain, self._count_error)
        context.error_language = self._error_language
        scope[SCOPE_KEY] = context
        if self._drain.begun:
            context.headers.append((b"connection", b"close"))
        begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message["headers"], *id_headers(scope), *context.headers]
                if context.limits:
                    message["headers"] += limit_headers(context.limits)
            await send(message)

        try:
            if self._drain.refusing and scope["path"].startswith(API_PATHS):
                raise NotReady(ErrorText("server_stopping"), retry_after_s=5)
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            # The outermost frame of a request: no client ever gets a traceback or a silent close.
            told = _told(error, context)
            if not begun:
                await refuse(told, scope, receive, send_with_id)
            elif not isinstance(error, ClientDisconnect):
                raise


def _told(error: Exception, context: RequestContext) -> ServingError:
    """What the client is told of `error`, which is logged if it is a bug."""
    if isinstance(error, ServingError):
        return error
    if isinstance(error, ClientDisconnect):
        # In the middle of its body.
        return Cancelled(ErrorText("client_left"))
    log.exception("request %s failed", context.request_id, exc_info=error)
    return BackendFailure(ErrorText("gateway_failed"))


class HeadMiddleware:
    """Answers HEAD like GET; the server then omits the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = dict(scope, method="GET")
        await self._app(scope, receive, send)


class CountMiddleware:
    """Counts API requests."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._metrics = services.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(API_PATHS):
            self._metrics.requests.inc()
        await self._app(scope, receive, send)


class BoundsMiddleware:
    """Refuses ambiguous headers and too large bodies, and limits the time for a body to arrive."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app = app
        self._settings = settings
        self._garbage_counter = GarbageCounter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._settings.max_body_bytes
        if scope["path"].rstrip("/").endswith(LARGE_BODIES):
            limit = self._settings.max_embedding_body_bytes
        elif scope["path"] == FILES:
            limit = self._settings.max_file_bytes
        try:
            _check_head(scope, limit)
        except InvalidRequest as error:
            context_of(scope).note_error(error)
            refusal = error_response(error, scope)
            if not isinstance(error, RequestTooLarge | UnsupportedEncoding):
                # It is unclear where the next request begins. The end of a body that is too large
                # or compressed is known; that connection stays open, because a client that is
                # reset while it sends never reads the answer.
                refusal.headers["connection"] = "close"
            await refusal(scope, receive, send)
            return
        await self._app(scope, self._bounded(receive, limit), send)

    def _bounded(self, receive: Receive, limit: int) -> Receive:
        received = 0
        complete = False
        deadline_s: float | None = None

        async def bounded() -> Message:
            nonlocal received, complete, deadline_s
            if complete:
                return await receive()
            if deadline_s is None:
                # The limit is for the whole body: single bytes do not extend it.
                now_s = asyncio.get_running_loop().time()
                deadline_s = now_s + self._settings.body_timeout_s
            try:
                async with asyncio.timeout_at(deadline_s):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(
                    408, "the body did not arrive in time", {"connection": "close"}
                ) from None
            if message["type"] == "http.request":
                arrived = len(message.get("body", b""))
                self._garbage_counter.count(arrived)
                received += arrived
                complete = not message.get("more_body", False)
                if received > limit:
                    raise _too_large(limit)
            return message

        return bounded


def _check_head(scope: Scope, limit: int) -> None:
    names = [name for name, _ in scope["headers"]]
    if len(names) > MAX_HEADERS:
        raise InvalidRequest(ErrorText("too_many_headers", most=MAX_HEADERS))
    # The connection limits only headers that arrive in pieces.
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEAD_BYTES:
        raise InvalidRequest(ErrorText("headers_too_large", most_bytes=MAX_HEAD_BYTES))
    if (coding := header(scope, b"content-encoding")) not in (None, "", "identity"):
        raise UnsupportedEncoding(
            ErrorText("coding_unknown", coding=shorten(str(coding))),
            suggestions=(ErrorText("send_uncompressed"),),
        )
    if names.count(b"authorization") > 1:
        raise InvalidRequest(ErrorText("two_keys"))
    length = header(scope, b"content-length")
    if length is not None and length.isdecimal() and int(length[:20]) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(ErrorText("body_too_large", limit_bytes=limit))
