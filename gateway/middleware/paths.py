"""Corrects paths that have a slash or a version too many because of the client's base URL."""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.middleware.request_context import API_PATHS

VERSION = "/v1"
_SLASHES = re.compile(r"//+")

# Paths of other servers, and the paths here that do the same.
ELSEWHERE = {
    "/completion": "/v1/completions",
    "/embed": "/v1/embeddings",
    "/v1/embed": "/v1/embeddings",
    "/v2/embed": "/v1/embeddings",
    "/v2/chat": "/v1/chat/completions",
    "/v1": "/v1/models",
}


class MeantPathMiddleware:
    """Corrects paths in the outermost layer, so that keys, limits and logs see one path only."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            meant = meant_path(path)
            # No path is corrected to a probe, because probes are open to all.
            if meant != path and meant.startswith(API_PATHS):
                scope = dict(scope, path=meant)
        await self._app(scope, receive, send)


def meant_path(path: str) -> str:
    """Return the path that `path` stands for: `/v1/models` for `//v1/v1/models/`."""
    found = _SLASHES.sub("/", path) if "//" in path else path
    while found.startswith(f"{VERSION}{VERSION}/"):
        found = found.removeprefix(VERSION)
    return found.rstrip("/") or "/" if found.endswith("/") else found
