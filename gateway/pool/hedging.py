"""Asks a second worker when the first takes longer than 95 of 100 calls did: the first answer
counts, and the other call is cancelled. For small calls only, which take about the same time.

Source: Dean & Barroso 2013, "The tail at scale" (hedged requests).
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
QUANTILE = 0.95
KNOWN, LEAST_KNOWN, LOOK_EVERY = 512, 64, 32


class Hedging:
    """How long calls take, and how often a second one helped."""

    def __init__(self) -> None:
        self._latest_s: deque[float] = deque(maxlen=KNOWN)
        self._n = 0
        # When a second worker is asked, in seconds.
        self.after_s = math.inf
        self.n_sent = 0
        self.n_won = 0

    def note(self, seconds: float) -> None:
        self._latest_s.append(seconds)
        self._n += 1
        if self._n >= LEAST_KNOWN and self._n % LOOK_EVERY == 0:
            self.after_s = sorted(self._latest_s)[int(QUANTILE * len(self._latest_s))]

    async def answer(
        self, first: Awaitable[T], may_ask: Callable[[], bool], second: Callable[[], Awaitable[T]]
    ) -> T:
        """The first answer of both calls; if one fails, that of the other.

        Args:
            may_ask: whether the second call may be made now.
        """
        calls = [asyncio.ensure_future(first)]
        try:
            wait_s = None if math.isinf(self.after_s) else self.after_s
            await asyncio.wait(calls, timeout=wait_s)
            if not calls[0].done() and may_ask():
                self.n_sent += 1
                calls.append(asyncio.ensure_future(second()))
            waiting = set(calls)
            while True:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                good = [call for call in done if call.exception() is None]
                if good or not waiting:
                    found = (good or calls)[0]
                    self.n_won += found is not calls[0]
                    return found.result()
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
