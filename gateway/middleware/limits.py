"""Limits of one client: requests per time window, and requests at once."""

import time
from collections import Counter

from starlette.types import ASGIApp, Receive, Scope, Send

from common.error_texts import ErrorText
from common.errors import RateLimited
from gateway.errors import refuse
from gateway.middleware.limit_headers import LimitState
from gateway.middleware.rate_limit import RateLimit
from gateway.middleware.request_context import API_PATHS, RequestContext, context_of
from gateway.services import Services


class LimitsMiddleware:
    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._rate = services.rate_limit
        self._budgets = services.budgets
        self._foreground = services.batches.foreground
        self._keys = services.metrics.measures.keys
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
            self._keys[context.key_label].refused[error.code] += 1
            await refuse(error, scope, receive, send)
            return
        self._keys[context.key_label].requests += 1
        self._in_flight[context.client] += 1
        if context.kind is not None:
            self._foreground.begin()
        try:
            await self._app(scope, receive, send)
        finally:
            if context.kind is not None:
                self._foreground.end()
            self._in_flight[context.client] -= 1
            if not self._in_flight[context.client]:
                del self._in_flight[context.client]

    async def _count(self, context: RequestContext) -> None:
        key, kind = context.key, context.kind
        most = self._most_at_once
        if key is not None and key.concurrent_requests is not None:
            most = key.concurrent_requests
        if most and self._in_flight[context.client] >= most:
            raise RateLimited(ErrorText("too_many_at_once", most=most), retry_after_s=1)
        if key is not None and kind is not None:
            state = await self._budgets.count_request(key, kind)
            if state is not None:
                context.limits.append(state)
                return
        if self._rate is not None:
            await self._count_rate(self._rate, context)

    async def _count_rate(self, rate: RateLimit, context: RequestContext) -> None:
        """Count it against RATE_LIMIT, which is for keys without a limit of their own."""
        allowed, remaining, reset_at = await rate.hit(context.client)
        wait_s = max(0.0, reset_at - time.time())
        item = rate.item
        context.limits.append(
            LimitState("requests", "requests", item.amount, item.get_expiry(), remaining, wait_s)
        )
        if not allowed:
            raise RateLimited(
                ErrorText("rate_exceeded", limit=item), retry_after_s=max(1.0, wait_s)
            )
