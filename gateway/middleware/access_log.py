"""One log line per request: the client, the route, the status and the duration.

A line never has a prompt, a key, or the path as it was sent. Requests for health, metrics and the
files of the console are logged at DEBUG.
"""

import logging
import time
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import ServingError
from gateway.middleware.request_context import context_of

# nginx's status for a client that left before the response.
CLIENT_LEFT = 499
BAD_REQUEST = 400
MONITORING = ("/health", "/metrics", "/console/")

# The name never changes, so that its lines can be filtered.
log = logging.getLogger("gateway.access_log")


class AccessLogMiddleware:
    """
    Args:
        paths: the paths of the app, which may be logged as they are.
    """

    def __init__(self, app: ASGIApp, paths: Collection[str]) -> None:
        self._app = app
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = time.monotonic()
        status, whole = CLIENT_LEFT, False

        async def watched(message: Message) -> None:
            nonlocal status, whole
            await send(message)
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                whole = not message.get("more_body", False)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._write(scope, status, whole, time.monotonic() - began_s)

    def _write(self, scope: Scope, status: int, whole: bool, took_s: float) -> None:
        context = context_of(scope)
        route = self._route(scope)
        level = logging.DEBUG if route.startswith(MONITORING) else logging.INFO
        fields = {
            "id": context.request_id,
            "client": context.client or "-",
            "method": scope["method"][:16],
            "route": route,
            "status": status,
            "ms": round(took_s * 1000, 1),
        }
        if context.trace_id:
            fields["trace"] = context.trace_id
        if context.error_code:
            fields["error"] = context.error_code
        if not whole:
            fields["cut"] = True
        # In text as names and values; in JSON as fields of the line.
        log.log(level, "%s", _Line(fields), extra={"fields": fields})

    def _route(self, scope: Scope) -> str:
        """The template of the route; "-" for an unknown path."""
        for matched in ("endpoint", "route"):
            if path := getattr(scope.get(matched), "path", None):
                return str(path)
        return scope["path"] if scope["path"] in self._paths else "-"


class _Line:
    """Names and values as text, which is written only if the line is."""

    def __init__(self, fields: dict[str, object]) -> None:
        self._fields = fields

    def __str__(self) -> str:
        said = (
            name if value is True else f"{name}={value}" for name, value in self._fields.items()
        )
        return " ".join(said)


def note_refusal(request_id: str, address: str, status: int, error: ServingError) -> None:
    """Log a connection that is closed before there was a request on it."""
    log.log(
        # A flood of idle connections must not flood the log.
        logging.INFO if status == BAD_REQUEST else logging.DEBUG,
        "id=%s client=address:%s method=- route=- status=%d error=%s",
        request_id,
        address or "unknown",
        status,
        error.code,
    )
