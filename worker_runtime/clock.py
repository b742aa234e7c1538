"""The clock of the lifecycle, which tests replace so that hours pass in one call."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """A source of time, which tests replace."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start. It never goes back, so all durations are measured with
        it."""

    def time(self) -> float:
        """Seconds since the epoch; only for times that are shown to people."""

    async def sleep(self, delay_s: float) -> None: ...


class SystemClock:
    """The system's clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
