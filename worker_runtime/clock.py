"""Time as the lifecycle sees it: injected, so that tests turn hours into one call."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back, so all durations come from here."""

    def time(self) -> float:
        """Seconds since the epoch; only for times shown to people."""

    async def sleep(self, delay_s: float) -> None: ...


class SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
