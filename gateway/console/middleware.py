"""Serves the console. It stands before the keys: the page is the same for everybody and holds
nothing; what it then asks of the API needs a key like any request."""

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.console.files import PAGE, ConsoleFiles

READS = frozenset({"GET", "HEAD"})
# Where frameworks have their page about the API, and where the console has it.
DOCS, REFERENCE = "/docs", "/#/reference"


class ConsoleMiddleware:
    def __init__(self, app: ASGIApp, files: ConsoleFiles) -> None:
        self._app = app
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._serves(scope):
            await self._app(scope, receive, send)
            return
        await self._response(scope)(scope, receive, send)

    def _serves(self, scope: Scope) -> bool:
        path = scope["path"]
        if scope["method"] not in READS or not (self._files.has(path) or path == DOCS):
            return False
        # Browsers ask for HTML by name; other programs get the API's own answer at `/`.
        return path != PAGE or "text/html" in Headers(scope=scope).get("accept", "")

    def _response(self, scope: Scope) -> Response:
        if scope["path"] == DOCS:
            return RedirectResponse(REFERENCE)
        return self._files.response(scope["path"], Headers(scope=scope))
