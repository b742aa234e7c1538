"""FastAPI with layers of ours alone around its routes.

FastAPI's own layers keep exit stacks, tracers and limits that nothing here uses, at every request,
and what its outermost one does, `RequestIdMiddleware` does in our shape. So the ASGI call does what
Starlette's does, not FastAPI's: requests go through the layers of `add_middleware` and then to the
router. Only public names are used for that.

Tried with FastAPI 0.165.0 and Starlette 1.10.0; `tests/contract/test_fastapi_app.py` guards it.
"""

from fastapi import FastAPI
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send


class LayeredApp(FastAPI):
    """An app whose layers answer unexpected errors, and whose routes take the request itself.

    FastAPI's own routes, with parameters that it fills in, need its layers; `add_route` does not.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.middleware_stack is None:
            self.middleware_stack = self._layered()
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)

    def _layered(self) -> ASGIApp:
        app: ASGIApp = ExceptionMiddleware(self.router, self.exception_handlers)
        for layer, args, kwargs in reversed(self.user_middleware):
            app = layer(app, *args, **kwargs)
        return app
