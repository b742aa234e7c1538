"""Tells when a thread of an engine process is stuck: each says what it begins, and for how long
that may take at most.

A process that answers pings may still be of no use: the thread that answers is not the one that
hangs. So each answer also names what is overdue, and the worker ends such a process.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watchdog:
    """What the threads of one process are at; each writes its own entry, in one assignment."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until_s: dict[str, float | None] = {}

    @contextmanager
    def step(self, thread: str, limit_s: float) -> Iterator[None]:
        """The named thread is busy meanwhile, with something that takes at most `limit_s`."""
        self._until_s[thread] = self._clock() + limit_s
        try:
            yield
        finally:
            self._until_s[thread] = None

    def overdue(self) -> str:
        """The thread that is overdue, and by how many seconds; empty: none is."""
        now_s = self._clock()
        for thread, until_s in self._until_s.copy().items():
            if until_s is not None and now_s > until_s:
                return f"{thread}, overdue by {now_s - until_s:.0f} s"
        return ""
