"""Going away without breaking anybody's answer.

begun: not ready any more, connections close after their answer; requests are still accepted,
because load balancers notice late. refusing: new work gets 503. expired: what still runs is ended
with an error.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Drain:
    def __init__(self) -> None:
        self.begun = False
        self.refusing = False
        self.expired = asyncio.Event()
        self._running: set[asyncio.Task[Any]] = set()

    @contextmanager
    def ending(self, task: asyncio.Task[Any]) -> Iterator[None]:
        """Cancel `task` when the time is over."""
        self._running.add(task)
        if self.expired.is_set():
            task.cancel()
        try:
            yield
        finally:
            self._running.discard(task)

    def expire(self) -> None:
        self.expired.set()
        for task in self._running:
            task.cancel()
