"""Makes a request of a batch: the app answers it in this process, as if it had come over HTTP.

It passes below keys and limits of requests, which were checked for the batch; limits of tokens and
rights to models are checked where they are for all requests.
"""

import asyncio
import logging
from typing import NamedTuple

import orjson
from starlette.types import ASGIApp, Message

from common.error_texts import ErrorText
from common.errors import BackendFailure
from gateway.errors import envelope
from gateway.middleware.request_context import SCOPE_KEY, RequestContext

FAILED = "gateway_failed"

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """`retry_after_s`: None: the reply does not say."""

    status: int
    body: bytes
    retry_after_s: float | None


async def ask(app: ASGIApp, path: str, body: bytes, context: RequestContext) -> Answer:
    """The app's answer to a POST."""
    sent: list[Message] = []
    unread = [body]

    async def receive() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        # This client never leaves.
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json")],
        "client": None,
        "server": None,
        "state": {},
        SCOPE_KEY: context,
    }
    try:
        await app(scope, receive, send)
    except Exception:
        # The outermost frame of this request: the batch goes on with the next one.
        log.exception("request %s of a batch failed", context.request_id)
        error = BackendFailure(ErrorText("gateway_failed"))
        return Answer(500, orjson.dumps(envelope(error, context.request_id)), None)
    start, *rest = sent
    headers = dict(start["headers"])
    wait = headers.get(b"retry-after")
    content = b"".join(message.get("body", b"") for message in rest)
    return Answer(start["status"], content, float(wait) if wait else None)
