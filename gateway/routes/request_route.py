"""Routes whose handlers take the request itself, as all here do.

FastAPI's own way looks for a handler's parameters, dependencies and files, and keeps two exit
stacks for them, at every request: as much time as the call to the worker takes. Its routes serve to
describe the API; Starlette's, whose endpoint may be an ASGI application, serve the requests.
"""

from collections.abc import Awaitable, Callable, Iterable

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send


class RequestEndpoint:
    """Calls its handler directly, with the request and what the path holds, by name.

    Args:
        path: its template, for the access log.
    """

    def __init__(self, path: str, handler: Callable[..., Awaitable[Response]]) -> None:
        self.path = path
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._handler(Request(scope, receive, send), **scope["path_params"])
        await response(scope, receive, send)


def request_routes(described: Iterable[APIRoute]) -> list[Route]:
    """Routes that serve what FastAPI's `described` ones describe."""
    return [
        Route(route.path, RequestEndpoint(route.path, route.endpoint), methods=route.methods)
        for route in described
    ]
