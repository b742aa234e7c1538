"""Limits of one client: requests per time window, and requests at once."""

import math
import time
from collections import Counter

from starlette.types import ASGIApp, Receive, Scope, Send

from common.error_texts import ErrorText
from common.errors import RateLimited
from gateway.errors import error_response
from gateway.middleware.request_context import API_PATHS, RequestContext, context_of
from gateway.services import Services


class LimitsMiddleware:
    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._rate = services.rate_limit
        self._most_at_once = services.settings.most_at_once
        self._in_flight: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(API_PATHS):
            await self._app(scope, receive, send)
            return
        context = context_of(scope)
        try:
            await self._count(context)
        except RateLimited as error:
            context.note_error(error)
            await error_response(error, scope)(scope, receive, send)
            return
        self._in_flight[context.client] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_flight[context.client] -= 1
            if not self._in_flight[context.client]:
                del self._in_flight[context.client]

    async def _count(self, context: RequestContext) -> None:
        if self._most_at_once and self._in_flight[context.client] >= self._most_at_once:
            raise RateLimited(
                ErrorText("too_many_at_once", most=self._most_at_once), retry_after_s=1
            )
        if self._rate is None:
            return
        allowed, remaining, reset_at = await self._rate.hit(context.client)
        wait_s = max(0.0, reset_at - time.time())
        context.headers += [
            (b"x-ratelimit-limit-requests", b"%d" % self._rate.item.amount),
            (b"x-ratelimit-remaining-requests", b"%d" % remaining),
            (b"x-ratelimit-reset-requests", b"%ds" % math.ceil(wait_s)),
        ]
        if not allowed:
            raise RateLimited(
                ErrorText("rate_exceeded", limit=self._rate.item), retry_after_s=max(1.0, wait_s)
            )
