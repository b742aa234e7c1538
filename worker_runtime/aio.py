"""Waits for one of several coroutines or for a condition, and leaves no task running behind."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from worker_runtime.clock import Clock

T = TypeVar("T")


async def first_of(work: Coroutine[Any, Any, T], *others: Coroutine[Any, Any, Any]) -> T | None:
    """The result of `work`, or None if one of `others` ended first.

    If the caller is cancelled at the moment in which `work` ends, the result is lost. So `work`
    must not return something that has to be released later.

    Raises:
        Exception: raised by `work`, or by one of `others` that ended first.
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
    """Await `work` without interrupting it: a cancellation takes effect after `work` has ended.

    Args:
        on_cancel: called at a cancellation; makes `work` end soon.
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
    """Wakes tasks that wait for a condition on plain state, after any part of the state changed."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        # The number of notifications, by which a waiter sees whether one came since it last looked.
        self.count = 0

    def notify(self) -> None:
        self.count += 1
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            # No other task runs between the check and the wait, so no change is missed.
            self._changed.clear()
            await self._changed.wait()

    async def after(self, count: int) -> None:
        """Return as soon as there were more than `count` notifications."""
        await self.until(lambda: self.count > count)

    async def or_at(self, deadline_s: float | None, clock: Clock) -> None:
        """Return after the next change, or at the deadline if there is one."""
        change = self.after(self.count)
        if deadline_s is None:
            await change
        else:
            await first_of(change, clock.sleep(max(deadline_s - clock.monotonic(), 0.0)))
