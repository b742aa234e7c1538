"""How much one client may ask: requests per window, and requests at once."""

import asyncio
import logging
import math
import time
from collections import Counter

from limits import RateLimitItem, parse
from limits.aio.storage import MovingWindowSupport, Storage
from limits.aio.strategies import MovingWindowRateLimiter as SharedLimiter
from limits.errors import StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import MovingWindowRateLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import error_response
from gateway.request_context import API_PATHS, RequestContext, context_of
from gateway.settings import GatewaySettings
from protos.errors import RateLimited

# Inference goes on while the shared storage hangs; local counts decide then.
SHARED_BUDGET_S = 0.05
# After it failed, so that not every request pays the budget.
SHARED_PAUSE_S = 5.0
CLOCK_JUMP_S = 2.0

log = logging.getLogger(__name__)


class RateLimit:
    """Counts hits per client, shared between gateways where a storage is configured."""

    def __init__(self, rate: str, storage_uri: str) -> None:
        self.item: RateLimitItem = parse(rate)
        self._local = MovingWindowRateLimiter(MemoryStorage())
        self._shared = _shared(storage_uri) if storage_uri else None
        self._shared_again_s = 0.0
        self._clocks_differ_s = time.time() - time.monotonic()

    async def hit(self, client: str) -> tuple[bool, int, float]:
        """Whether it is allowed, how many are left, and when the window resets (epoch seconds)."""
        now_s = time.monotonic()
        if self._shared is not None and now_s >= self._shared_again_s:
            try:
                async with asyncio.timeout(SHARED_BUDGET_S):
                    allowed = await self._shared.hit(self.item, client)
                    window = await self._shared.get_window_stats(self.item, client)
                    return allowed, window.remaining, window.reset_time
            except (TimeoutError, OSError, StorageError) as error:
                self._shared_again_s = now_s + SHARED_PAUSE_S
                log.warning("the rate limit storage fails, counting locally: %r", error)
        self._forget_after_clock_jump()
        allowed = self._local.hit(self.item, client)
        local = self._local.get_window_stats(self.item, client)
        return allowed, local.remaining, local.reset_time

    def _forget_after_clock_jump(self) -> None:
        """The library counts by the wall clock: set back a day, it would refuse for a day."""
        differ_s = time.time() - time.monotonic()
        if abs(differ_s - self._clocks_differ_s) > CLOCK_JUMP_S:
            self._local.storage.reset()
        self._clocks_differ_s = differ_s


class LimitsMiddleware:
    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app = app
        rate = settings.rate
        self._rate = RateLimit(rate, settings.rate_limit_storage) if rate else None
        self._most_at_once = settings.most_at_once
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
            raise RateLimited(f"more than {self._most_at_once} requests at once", retry_after_s=1)
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
            raise RateLimited(f"the limit is {self._rate.item}", retry_after_s=max(1.0, wait_s))


def _shared(uri: str) -> SharedLimiter:
    storage = storage_from_string(uri, wrap_exceptions=True)
    if not isinstance(storage, Storage) or not isinstance(storage, MovingWindowSupport):
        raise ValueError("RATE_LIMIT_STORAGE needs an asynchronous storage: async+redis://…")
    return SharedLimiter(storage)
