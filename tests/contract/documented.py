"""Whether a reply is one that the API's description has: asked of each in the contract's tests."""

import functools
import re
from typing import Any

import httpx

from gateway.app import create_app
from gateway.settings import GatewaySettings


@functools.cache
def document() -> dict[str, Any]:
    app = create_app(GatewaySettings(_env_file=None))
    return app.openapi()


def answers(method: str, path: str) -> dict[str, Any] | None:
    """The answers of an operation, by status; None for what is not described."""
    # A HEAD is answered as GET.
    name = "get" if method == "HEAD" else method.lower()
    for pattern, operations in _paths():
        if name in operations and pattern.fullmatch(path):
            found: dict[str, Any] = operations[name]["responses"]
            return found
    return None


async def require_documented(reply: httpx.Response) -> None:
    """
    Raises:
        AssertionError: the description lacks its status, or its type of content.
    """
    request = reply.request
    described = answers(request.method, request.url.path)
    if described is None:
        return
    asked = f"{request.method} {request.url.path}"
    answer = described.get(str(reply.status_code))
    assert answer is not None, f"{asked}: {reply.status_code} is not described"
    content = reply.headers.get("content-type", "").partition(";")[0]
    assert content in answer["content"], f"{asked}: {content} is not described"


@functools.cache
def _paths() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    return [
        (re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(path))), operations)
        for path, operations in document()["paths"].items()
    ]
