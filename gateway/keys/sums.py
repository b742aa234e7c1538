"""Sums of use as this process knows them: what the ledger said last, and what it was not told yet.

Requests look at memory only. Once a second the ledger is told what was added and says the new sums,
with what other gateways added. While it fails, this process counts by itself and tells it later.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from gateway.keys import periods
from gateway.keys.ledger import Ledger, SumKey, UsageKey, Used

TELL_EVERY_S = 1.0
# How long a request waits for what the ledger knows of a key that was not seen here before.
READ_WITHIN_S = 0.05
# How long the ledger is not asked again after it failed.
PAUSE_S = 5.0
# Sums of so many minutes, days and months before this one are kept.
KEPT_PERIODS = 1

log = logging.getLogger(__name__)


class _Sum:
    __slots__ = ("told", "untold")

    def __init__(self, told: int = 0) -> None:
        self.told = told
        self.untold = 0


class Sums:
    """
    Args:
        clock: returns the seconds since the epoch.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self.ledger = ledger
        self._clock = clock
        self._sums: dict[SumKey, _Sum] = {}
        self._changed: dict[SumKey, _Sum] = {}
        self._usage: dict[UsageKey, Used] = {}
        self._ask_again_s = 0.0
        self._telling = asyncio.Lock()

    def get(self, key: SumKey) -> int:
        found = self._sums.get(key)
        return found.told + found.untold if found is not None else 0

    def add(self, key: SumKey, n: int) -> None:
        found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = _Sum()
        found.untold += n
        self._changed[key] = found

    def add_usage(self, key: UsageKey, used: Used) -> None:
        known = self._usage.get(key)
        if known is not None:
            used = Used(*(a + b for a, b in zip(known, used, strict=True)))
        self._usage[key] = used

    async def know(self, keys: Sequence[SumKey]) -> None:
        """Read what the ledger has of sums that were not seen here before; briefly, or not."""
        unknown = [key for key in keys if key not in self._sums]
        if not unknown or time.monotonic() < self._ask_again_s:
            return
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                found = await self.ledger.read(unknown)
        except OSError as error:  # TimeoutError is one of them
            self._failed(error)
            return
        for key in unknown:
            self._sums.setdefault(key, _Sum(found.get(key, 0)))

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Tell the ledger of all that is added, until the end."""
        telling = asyncio.create_task(self._tell_regularly())
        try:
            yield
        finally:
            telling.cancel()
            with suppress(asyncio.CancelledError):
                await telling
            await self.tell()
            await self.ledger.close()

    async def tell(self) -> None:
        """Tell the ledger what was added."""
        async with self._telling:
            await self._tell()

    async def _tell_regularly(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            if time.monotonic() >= self._ask_again_s:
                await self.tell()
            self._forget()

    async def _tell(self) -> None:
        changed, self._changed = self._changed, {}
        usage, self._usage = self._usage, {}
        added = {key: one.untold for key, one in changed.items() if one.untold}
        if not added and not usage:
            return
        try:
            sums = await self.ledger.add(added, usage, periods.day_of(self._clock()))
        except OSError as error:
            self._failed(error)
            self._changed = changed | self._changed
            for place, used in usage.items():
                self.add_usage(place, used)
            return
        for key, n in added.items():
            one = changed[key]
            one.untold -= n
            one.told = sums.get(key, one.told + n)

    def _forget(self) -> None:
        """Drop sums of periods that are over."""
        now_s = self._clock()
        first = {
            periods.REQUESTS_PER_MINUTE: periods.minute_of(now_s) - KEPT_PERIODS,
            periods.TOKENS_PER_MINUTE: periods.minute_of(now_s) - KEPT_PERIODS,
            periods.TOKENS_PER_DAY: periods.day_of(now_s) - KEPT_PERIODS,
            periods.TOKENS_PER_MONTH: periods.month_of(now_s) - KEPT_PERIODS,
        }
        gone = [
            key
            for key, one in self._sums.items()
            if key.period < first[key.measure] and not one.untold
        ]
        for key in gone:
            del self._sums[key]

    def _failed(self, error: OSError) -> None:
        now_s = time.monotonic()
        # Requests that asked at the same time fail together, which one line says.
        if now_s >= self._ask_again_s:
            log.warning("the ledger of usage fails, counting here until it answers: %r", error)
        self._ask_again_s = now_s + PAUSE_S
