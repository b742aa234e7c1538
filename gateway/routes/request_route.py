"""Routes whose handlers get the request itself, as all handlers here do.

For every request FastAPI resolves the parameters, dependencies and files of a handler, and sets up
two exit stacks for them, which takes as long as the call to the worker. So FastAPI's routes only
describe the API. Starlette's routes, whose endpoint may be an ASGI application, serve requests.
"""

from collections.abc import Awaitable, Callable, Iterable

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send


class RequestEndpoint:
    """Calls its handler with the request, and the path parameters by name.

    Args:
        path: the template of the route, for the access log.
    """

    def __init__(self, path: str, handler: Callable[..., Awaitable[Response]]) -> None:
        self.path = path
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._handler(Request(scope, receive, send), **scope["path_params"])
        await response(scope, receive, send)


def request_routes(described: Iterable[APIRoute]) -> list[Route]:
    """Starlette's routes for FastAPI's `described` ones."""
    return [
        Route(route.path, RequestEndpoint(route.path, route.endpoint), methods=route.methods)
        for route in described
    ]
