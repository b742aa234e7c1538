"""FastAPI with only our own middleware around its routes.

FastAPI's middleware sets up exit stacks, tracers and limits for every request, which nothing here
uses. `RequestIdMiddleware` does in our format what the outermost layer does. So the ASGI call is
like Starlette's, not FastAPI's: a request goes through the layers of `add_middleware` and then to
the router. Only public names are used for that.

Tried with FastAPI 0.165.0 and Starlette 1.10.0; `tests/contract/test_fastapi_app.py` guards it.
"""

from fastapi import FastAPI
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send


class LayeredApp(FastAPI):
    """An app whose middleware answers unexpected errors, and whose handlers get the request itself.

    FastAPI's own routes, with parameters that it fills in, would need its middleware.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.middleware_stack is None:
            self.middleware_stack = self._layered()
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)

    async def inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of this process itself, which goes through no layer."""
        scope["app"] = self
        await ExceptionMiddleware(self.router, self.exception_handlers)(scope, receive, send)

    def _layered(self) -> ASGIApp:
        app: ASGIApp = ExceptionMiddleware(self.router, self.exception_handlers)
        for layer, args, kwargs in reversed(self.user_middleware):
            app = layer(app, *args, **kwargs)
        return app
