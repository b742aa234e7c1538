"""Routes whose handlers take the request itself, as all here do."""

from collections.abc import Callable
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import Receive, Scope, Send


class RequestRoute(APIRoute):
    """Calls its handler directly, with the request and what the path holds, by name.

    FastAPI's own way looks for a handler's parameters, dependencies and files, and keeps two exit
    stacks for them, at every request: as much time as the call to the worker takes.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.endpoint(Request(scope, receive, send), **scope["path_params"])
        await response(scope, receive, send)
