"""Who did what to the server: one line of JSON for each action that is for admins only.

The file is only appended to. Each line has the time (UTC), the request's id, the client, the route,
what was acted on, and the status of the reply.
"""

import asyncio
import datetime
import json
import logging
import os
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.keys.endpoints import ADMIN, READ, need_of
from gateway.middleware.request_context import context_of

MAX_VALUE = 256
# The client left, or the request failed before there was a reply.
NO_STATUS = 0

log = logging.getLogger(__name__)


class AuditMiddleware:
    """
    Args:
        path: the file; it is created if it does not exist, for this user only.
        needs_key: whether only what clients with a key ask is written: nobody else can do anything,
            or fill the disk.
    """

    def __init__(self, app: ASGIApp, path: Path, *, needs_key: bool) -> None:
        self._app = app
        self._path = path
        self._needs_key = needs_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_action(scope):
            await self._app(scope, receive, send)
            return
        is_written = False

        async def write(status: int) -> None:
            nonlocal is_written
            is_written = True
            if context_of(scope).key is not None or not self._needs_key:
                await asyncio.shield(asyncio.to_thread(self._append, _line(scope, status)))

        async def watched(message: Message) -> None:
            # Before the reply, so that lines have the order in which clients saw replies.
            if message["type"] == "http.response.start":
                await write(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            # Also for a client that has left: it was done.
            if not is_written:
                await write(NO_STATUS)

    def _append(self, line: str) -> None:
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(handle, "a", encoding="ascii", newline="\n") as file:
                file.write(line)
        except OSError as error:
            log.error("the audit log cannot be written: %s; it would have said: %s", error, line)


def _is_action(scope: Scope) -> bool:
    return scope["method"] not in READ and need_of(scope["method"], scope["path"]).group == ADMIN


def _line(scope: Scope, status: int) -> str:
    context = context_of(scope)
    route = getattr(scope.get("endpoint"), "path", "-")
    said = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "id": context.request_id,
        "client": context.client,
        "key": context.key_label,
        "method": scope["method"][:16],
        "route": route,
        "status": status,
        **{name: value[:MAX_VALUE] for name, value in context.acted_on.items()},
    }
    return json.dumps(said) + "\n"
