"""Shuts down without breaking answers, in three stages.

- `begun`: the gateway is not ready, and connections close after their answer. Requests are still
  accepted, because load balancers notice late.
- `refusing`, under a supervisor: new requests get 503. Elsewhere new connections are refused, so
  that a proxy tries another gateway.
- `expired`: requests that still run are ended with an error.
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
        # Tasks that answer no request any more, but may end within the drain time.
        self.background: set[asyncio.Task[Any]] = set()
        self._running: set[asyncio.Task[Any]] = set()

    @contextmanager
    def ending(self, task: asyncio.Task[Any]) -> Iterator[None]:
        """Cancel `task` when the drain time is over."""
        self._running.add(task)
        if self.expired.is_set():
            task.cancel()
        try:
            yield
        finally:
            self._running.discard(task)

    def expire(self) -> None:
        """End all requests that still run."""
        self.expired.set()
        for task in self._running:
            task.cancel()
        for task in self.background:
            cancel_once(task)


def cancel_once(task: asyncio.Task[Any]) -> None:
    """Cancel a task that stores what it has then: a second time would keep it from that."""
    if not task.cancelling():
        task.cancel()
