"""API keys: who calls, and whether its key has the right to what it asks for.

Access is denied by default: if keys are configured, every path but the two probes needs one.
"""

from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from common.error_texts import ErrorText
from common.errors import AuthenticationFailed, InvalidRequest, PermissionDenied
from common.loopback import is_address
from gateway.errors import refuse
from gateway.keys.endpoints import may_call, need_of
from gateway.keys.store import Keys
from gateway.middleware.request_context import context_of, header

OPEN_PATHS = frozenset({"/health/live", "/health/ready"})


class AuthMiddleware:
    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._admit(scope)
            except (AuthenticationFailed, InvalidRequest, PermissionDenied) as error:
                await refuse(error, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        context = context_of(scope)
        context.client = f"address:{_address(scope)}"
        need = need_of(scope["method"], scope["path"])
        context.kind = need.kind
        if not self._keys.required:
            return
        try:
            record = self._keys.record_of(_offered(scope))
        except AuthenticationFailed:
            if scope["path"] in OPEN_PATHS:
                return
            raise
        context.key, context.client = record, record.client
        context.cache_salt = record.cache_salt
        if not record.admin and not may_call(record.endpoints, need.group):
            raise PermissionDenied(
                ErrorText("endpoint_forbidden", scope=need.group),
                suggestions=(ErrorText("ask_admin"),),
            )


def _address(scope: Scope) -> str:
    # A trusted proxy may pass on what a client made up.
    address = str((scope.get("client") or ("unknown",))[0])
    return address if _is_address(address) else "unknown"


_is_address = lru_cache(1024)(is_address)


def _offered(scope: Scope) -> str:
    names = [name for name, _ in scope["headers"]]
    for name in (b"authorization", b"x-api-key"):
        if names.count(name) > 1:
            raise InvalidRequest(ErrorText("header_repeated", name=name.decode()))
    authorization = header(scope, b"authorization") or ""
    kind, _, key = authorization.partition(" ")
    if kind.lower() == "bearer":
        return key.strip()
    return header(scope, b"x-api-key") or ""
