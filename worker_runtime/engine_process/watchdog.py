"""Finds threads of an engine process that are stuck. Each thread registers what it begins and how
long that may take.

A process that answers pings may still be stuck, because another thread answers them. So each pong
names an overdue thread, and the worker ends such a process.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watchdog:
    """Deadlines of the process's threads. Each thread writes only its own entry, atomically."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until_s: dict[str, float] = {}

    @contextmanager
    def step(self, thread: str, limit_s: float) -> Iterator[None]:
        """Run a step of the named thread inside the `with` block; it may take `limit_s` seconds."""
        self._until_s[thread] = self._clock() + limit_s
        try:
            yield
        finally:
            self._until_s.pop(thread, None)

    def overdue(self) -> str:
        """The overdue thread and by how many seconds it is late; empty if there is none."""
        now_s = self._clock()
        for thread, until_s in self._until_s.copy().items():
            if now_s > until_s:
                return f"{thread}, overdue by {now_s - until_s:.0f} s"
        return ""
