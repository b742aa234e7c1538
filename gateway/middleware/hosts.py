"""Limits the host names under which clients may reach a server that asks for no key.

Any site can let its own name point to this machine (DNS rebinding). A browser then treats the
answers as those of that site and shows them to the site's page. But it still sends the site's name
as the host, so the server refuses every name that nobody gave it.
"""

import functools
import re

from starlette.types import ASGIApp, Receive, Scope, Send

from common.error_texts import ErrorText
from common.errors import PermissionDenied
from common.loopback import is_loopback
from common.settings import split_list
from gateway.errors import refuse, shorten
from gateway.middleware.request_context import header
from gateway.settings import GatewaySettings

# The names of the machine inside its containers; nobody can register them as domains.
OF_THIS_MACHINE = frozenset({"host.docker.internal", "host.containers.internal"})
_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:]+))(?::\d{0,5})?")


class HostMiddleware:
    """Refuses requests with a foreign host name, on servers without keys."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app = app
        listed = (name.strip("[]").lower() for name in split_list(settings.allowed_hosts))
        self._listed = OF_THIS_MACHINE.union(listed)
        self._is_open = "*" in self._listed
        # A client sends the same host with each request.
        self._allows = functools.lru_cache(64)(self._is_ours)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = header(scope, b"host") if scope["type"] == "http" else None
        # A request without the header comes from an old load balancer: browsers always send it.
        if host is None or self._is_open or self._allows(host, _reached_at(scope)):
            await self._app(scope, receive, send)
            return
        error = PermissionDenied(
            ErrorText("host_refused", host=shorten(host)),
            suggestions=(ErrorText("list_host"), ErrorText("set_keys")),
        )
        await refuse(error, scope, receive, send)

    def _is_ours(self, host: str, reached_at: str) -> bool:
        found = _HOST.fullmatch(host.strip())
        if found is None:
            return False
        name = (found["address"] or found["name"]).lower().removesuffix(".")
        listed = name in self._listed or name == reached_at
        return listed or name.endswith(".localhost") or is_loopback(name)


def _reached_at(scope: Scope) -> str:
    """Return the address that the client connected to, as the server itself states it."""
    return str((scope.get("server") or ("",))[0])
