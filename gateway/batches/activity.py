"""Whether anybody asks for something: batches run while nobody does."""

import asyncio
import time

# Nobody has asked for so long: a person who reads an answer will ask again.
QUIET_S = 1.0


class Activity:
    """The requests of people and programs in flight, without those of batches."""

    def __init__(self) -> None:
        self._n_in_flight = 0
        self._latest_s = -QUIET_S
        self._none_in_flight = asyncio.Event()
        self._none_in_flight.set()

    def begin(self) -> None:
        self._n_in_flight += 1
        self._none_in_flight.clear()

    def end(self) -> None:
        self._n_in_flight -= 1
        self._latest_s = time.monotonic()
        if not self._n_in_flight:
            self._none_in_flight.set()

    async def quiet(self) -> None:
        """Return when nothing is in flight, and has not been for a while."""
        while True:
            await self._none_in_flight.wait()
            left_s = self._latest_s + QUIET_S - time.monotonic()
            if left_s <= 0:
                return
            await asyncio.sleep(left_s)
