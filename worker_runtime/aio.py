"""Waiting for one of several things, or for a condition; nothing is left running behind."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from worker_runtime.clock import Clock

T = TypeVar("T")


async def first_of(work: Coroutine[Any, Any, T], *others: Coroutine[Any, Any, Any]) -> T | None:
    """The result of `work`, or None if one of `others` ended before it.

    Cancelled from outside in the moment in which `work` ends, its result is lost: work that
    returns what must be released later is not to be nested in two of these.

    Raises:
        Exception: what `work` raised, or one of `others` that ended first.
    """
    working = asyncio.ensure_future(work)
    tasks = [working, *(asyncio.ensure_future(other) for other in others)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        for task in tasks:
            if task.done():
                task.result()
        return None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def to_the_end(work: Coroutine[Any, Any, T], on_cancel: Callable[[], None]) -> T:
    """The result of `work`, which is not interrupted: a cancellation waits until it has ended.

    Args:
        on_cancel: makes `work` end soon.
    """
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
            on_cancel()
    if cancelled:
        raise asyncio.CancelledError
    return task.result()


class Changes:
    """Wakes whoever waits for a condition over plain state, whenever some of it has changed."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        # How many there were: tells whether there was one since somebody looked.
        self.count = 0

    def notify(self) -> None:
        self.count += 1
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            # No other task runs between the look and the wait, so no change is missed.
            self._changed.clear()
            await self._changed.wait()

    async def or_at(self, deadline_s: float | None, clock: Clock) -> None:
        """Return after the next change, or at the deadline if there is one."""
        count = self.count
        change = self.until(lambda: self.count != count)
        if deadline_s is None:
            await change
        else:
            await first_of(change, clock.sleep(max(deadline_s - clock.monotonic(), 0.0)))
