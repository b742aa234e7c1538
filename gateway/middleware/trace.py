"""The first span of each API request, in the trace of its caller if the request names one."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.tracing import TRACE_KEYS, Tracer, current
from gateway.middleware.access_log import CLIENT_LEFT
from gateway.middleware.request_context import API_PATHS, context_of, header

FIRST_FAILURE = 500


class TraceMiddleware:
    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(API_PATHS):
            await self._app(scope, receive, send)
            return
        context, method = context_of(scope), scope["method"][:16]
        headers = {key: header(scope, key.encode("ascii")) or "" for key in TRACE_KEYS}
        # The path as it was sent may hold anything, so the span is named once its route is known.
        span = self._tracer.begin(method, headers, {"http.request.method": method})
        current.set(span)
        context.trace_id = span.trace_id
        status = CLIENT_LEFT

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            if route := getattr(scope.get("endpoint"), "path", ""):
                span.rename(f"{method} {route}", {"http.route": route})
            span.note(
                {
                    "http.response.status_code": status,
                    "y26hkx.request_id": context.request_id,
                    "y26hkx.key": context.key_label,
                }
            )
            failed = status >= FIRST_FAILURE or status == CLIENT_LEFT
            span.end(context.error_code or (str(status) if failed else ""))
