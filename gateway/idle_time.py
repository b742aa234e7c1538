"""Whether anybody asks: batches run while nobody does, and memory is given back afterwards."""

import asyncio
import math
import time
from collections.abc import Callable

# Nobody has asked for so long: a person who reads an answer will ask again.
QUIET_S = 1.0
# Who has asked within that time may ask again any moment.
LATELY_S = 60.0
RETURN_EVERY_S = 30.0


class ForegroundRequests:
    """The requests of people and programs in flight, without those of batches."""

    def __init__(self) -> None:
        self.n_begun = 0
        self._n_in_flight = 0
        self._latest_s = -math.inf
        self._none_in_flight = asyncio.Event()
        self._none_in_flight.set()

    def begin(self) -> None:
        self.n_begun += 1
        self._n_in_flight += 1
        self._none_in_flight.clear()

    def end(self) -> None:
        self._n_in_flight -= 1
        self._latest_s = time.monotonic()
        if not self._n_in_flight:
            self._none_in_flight.set()

    @property
    def asked_lately(self) -> bool:
        return time.monotonic() - self._latest_s < LATELY_S

    async def quiet(self) -> None:
        """Return when nothing is in flight, and has not been for a while."""
        while True:
            await self._none_in_flight.wait()
            left_s = self._latest_s + QUIET_S - time.monotonic()
            if left_s <= 0:
                return
            await asyncio.sleep(left_s)


async def return_memory(foreground: ForegroundRequests, give_back: Callable[[], None]) -> None:
    """Now and then, if there were requests: their memory stays with the allocator otherwise.

    Args:
        give_back: takes some milliseconds, in a thread.
    """
    n_known = foreground.n_begun
    while True:
        await asyncio.sleep(RETURN_EVERY_S)
        if foreground.n_begun != n_known:
            n_known = foreground.n_begun
            await asyncio.to_thread(give_back)
