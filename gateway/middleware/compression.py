"""Compresses long replies of JSON and text, for clients of other machines that take gzip.

Not on this machine, where it only costs time. Not streams, whose events would wait for each other.
Not vectors: base64 shrinks by a quarter, floats by half, at 50 MB/s of a core that the model needs,
and a network of 1 Gbit/s brings them sooner as they are.
"""

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from common.loopback import is_loopback
from gateway.middleware.request_context import header

# Shorter replies are one to a few packets.
FROM_BYTES = 16 * 1024
# Level 1 shrinks JSON to a fifth; level 9 takes ten times as long for a tenth less.
LEVEL = 1
STREAMS = ("text/event-stream", "application/x-ndjson", "application/octet-stream")
VECTORS = ("/embeddings", "/embed")


class CompressionMiddleware:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._compressing = GZipMiddleware(app, FROM_BYTES, LEVEL, exclude_content_types=STREAMS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._compressing if _gains(scope) else self._app
        await app(scope, receive, send)


def _gains(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["path"].rstrip("/").endswith(VECTORS):
        return False
    # Behind a trusted proxy this is the client that it names.
    address = str((scope.get("client") or ("",))[0])
    return not is_loopback(address) and accepts_gzip(header(scope, b"accept-encoding") or "")


def accepts_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header names gzip, and not with the weight 0."""
    for coding in accepted.lower().split(","):
        name, _, weight = coding.replace(" ", "").partition(";q=")
        if name == "gzip":
            return weight.strip("0.") != "" or weight == ""
    return False
