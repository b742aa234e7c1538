"""Which web pages may call this server.

A browser sends the POST of any page to any address, including this machine, and only hides the
answer from the page. Without API keys, that alone would let any site load models and compute here.
So requests of pages that may not call are refused before anything runs.
"""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from common.error_texts import ErrorText
from common.errors import PermissionDenied
from common.settings import split_list
from gateway.errors import refuse
from gateway.middleware.request_context import context_of, header
from gateway.settings import GatewaySettings

# Pages of this machine, and of installed programs (app://, tauri://, chrome-extension://); not
# "null", which any page can make itself.
LOCAL = (
    r"https?://(localhost|[\w-]+\.localhost|127\.0\.0\.1|\[::1\])(:\d+)?|(?!https?:)[\w.+-]+://.*"
)
VARY = (b"vary", b"Origin")
READ_ONLY = frozenset({"GET", "HEAD", "OPTIONS"})


class CorsPolicyMiddleware(CORSMiddleware):
    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        super().__init__(
            app,
            allow_origins=split_list(settings.cors_origins),
            # Without keys any program of this machine may call, so its pages may too.
            allow_origin_regex=None if settings.has_keys else LOCAL,
            allow_methods=["*"],
            allow_headers=["*"],
            allow_private_network=True,
            expose_headers=["*"],
        )
        self._has_keys = settings.has_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if header(scope, b"origin") is None:
            # From a program, not from a page. Caches are told that a page gets other headers.
            context_of(scope).headers.append(VARY)
            await self.app(scope, receive, send)
            return
        if self._refuses(scope):
            error = PermissionDenied(
                ErrorText("origin_refused"), suggestions=(ErrorText("list_origin"),)
            )
            await refuse(error, scope, receive, send)
            return
        await super().__call__(scope, receive, send)

    def _refuses(self, scope: Scope) -> bool:
        if self.is_allowed_origin(header(scope, b"origin") or ""):
            return False
        # A browser's preflight request asks, without the key, whether the page may call.
        is_preflight = header(scope, b"access-control-request-method") is not None
        if is_preflight and scope["method"] == "OPTIONS":
            return True
        return not self._has_keys and scope["method"] not in READ_ONLY
