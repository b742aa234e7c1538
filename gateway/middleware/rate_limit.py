"""Requests per client and time window: counted here, or in a storage that gateways share.

If that storage is slow, unreachable or read-only, requests go on and this process counts by itself.
"""

import asyncio
import logging
import time
from typing import Any

from limits import RateLimitItem, parse
from limits.aio.storage import MovingWindowSupport, RedisStorage, Storage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.aio.strategies import MovingWindowRateLimiter as SharedLimiter
from limits.errors import ConfigurationError, StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

# How long a request waits for the shared storage, and how long for its first answer: the connection
# is made then, and right after a start nothing is counted here that could decide instead.
SHARED_BUDGET_S, FIRST_BUDGET_S = 0.05, 1.0
# How long it is not used after it failed, so that not every request waits.
SHARED_PAUSE_S = 5.0
CLOCK_JUMP_S = 2.0
ASYNC = "async+"

log = logging.getLogger(__name__)


class RateLimit:
    """
    Args:
        rate: such as "60/minute".
        storage_uri: such as "redis://host:6379"; empty: counters stay in this process.
    Raises:
        ValueError: `rate` or `storage_uri` is invalid.
    """

    def __init__(self, rate: str, storage_uri: str) -> None:
        self.item: RateLimitItem = parse(rate)
        self._local = MovingWindowRateLimiter(MemoryStorage())
        self._storage = shared_storage(storage_uri) if storage_uri else None
        self.shared = SharedLimiter(self._storage) if self._storage is not None else None
        # Until this time of the monotonic clock the shared storage is not used.
        self.shared_again_s = 0.0
        self._budget_s = FIRST_BUDGET_S
        self._clocks_differ_s = time.time() - time.monotonic()

    async def hit(self, client: str) -> tuple[bool, int, float]:
        """Count a request.

        Returns:
            Whether it is allowed, how many are left, and when the window resets (epoch seconds).
        """
        now_s = time.monotonic()
        if self.shared is not None and now_s >= self.shared_again_s:
            try:
                async with asyncio.timeout(self._budget_s):
                    allowed = await self.shared.hit(self.item, client)
                    window = await self.shared.get_window_stats(self.item, client)
                self._budget_s = SHARED_BUDGET_S
                return allowed, window.remaining, window.reset_time
            except (TimeoutError, OSError, StorageError) as error:
                # Also after a first answer that did not come: each request would wait as long.
                self._budget_s = SHARED_BUDGET_S
                self.shared_again_s = now_s + SHARED_PAUSE_S
                log.warning("the rate limit storage fails, counting locally: %r", error)
        self._forget_after_clock_jump()
        allowed = self._local.hit(self.item, client)
        local = self._local.get_window_stats(self.item, client)
        return allowed, local.remaining, local.reset_time

    async def close(self) -> None:
        """Close the connections to the shared storage."""
        # The library itself offers no way to do this.
        bridge = self._storage.bridge if isinstance(self._storage, RedisStorage) else None
        if isinstance(bridge, RedispyBridge):
            client: Any = bridge.get_connection()
            await client.aclose()

    def _forget_after_clock_jump(self) -> None:
        """Reset the counters after a jump of the wall clock, by which the library counts.

        If the clock was set back by a day, it would refuse requests for a day.
        """
        differ_s = time.time() - time.monotonic()
        if abs(differ_s - self._clocks_differ_s) > CLOCK_JUMP_S:
            self._local.storage.reset()
        self._clocks_differ_s = differ_s


def shared_storage(uri: str) -> Storage:
    """A storage that gateways share; no connection is opened yet.

    Raises:
        ValueError: `uri` is invalid, or its storage cannot be used here.
    """
    if not uri.startswith(ASYNC):
        uri = ASYNC + uri
    # The library supports several clients; the extra `redis` installs redis-py.
    options = {"implementation": "redispy"} if uri.startswith(f"{ASYNC}redis") else {}
    try:
        storage = storage_from_string(uri, wrap_exceptions=True, **options)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    if not isinstance(storage, Storage) or not isinstance(storage, MovingWindowSupport):
        raise ValueError("it cannot count in moving windows, as redis:// can")
    return storage
