"""Runs functions that may block on a disk outside the event loop."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class OffLoop(Protocol):
    """How a function that may block is run."""

    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]:
        """Run `function` without blocking the event loop; return or raise what it does."""


async def in_thread(function: Callable[[], T]) -> T:
    """Run `function` in a thread of its own. If the caller is cancelled, the result is dropped.

    The thread is a daemon. If it hangs on a dead disk, the process can still end, which the threads
    of `asyncio.to_thread` would prevent.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        finish = _finisher(loop, done)
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - the thread's end: the caller receives it
            reason = error
            finish(lambda: done.set_exception(reason))
        else:
            finish(lambda: done.set_result(result))

    threading.Thread(target=run, name="off the event loop", daemon=True).start()
    return await done


async def at_once(function: Callable[[], T]) -> T:
    """Run `function` on the event loop, where it is known not to block."""
    return function()


def _finisher(
    loop: asyncio.AbstractEventLoop, done: asyncio.Future[T]
) -> Callable[[Callable[[], None]], None]:
    def settle(how: Callable[[], None]) -> None:
        if not done.done():
            how()

    def finish(how: Callable[[], None]) -> None:
        try:
            loop.call_soon_threadsafe(settle, how)
        except RuntimeError:
            # The event loop was closed in the meantime: nobody waits any more.
            return

    return finish
