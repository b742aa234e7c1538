"""The second port, for programs that expect Ollama: its `/` says what they look for there."""

from starlette.types import ASGIApp, Receive, Scope, Send

# The route that answers instead.
INSTEAD = "/api"


class CompatPortMiddleware:
    """
    Args:
        port: the second port. Everything but `/` is the same as on the first.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/":
            _, port = scope.get("server") or ("", None)
            if port == self._port:
                scope = dict(scope, path=INSTEAD)
        await self._app(scope, receive, send)
