"""Calls that may block on a disk, kept off the event loop."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class OffLoop(Protocol):
    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]:
        """What `function` returns or raises, without blocking the event loop."""


async def in_thread(function: Callable[[], T]) -> T:
    """In a thread of its own. A cancelled caller leaves it to its end, unheard.

    The thread is a daemon: one that hangs on a dead disk keeps no process from ending, as those
    of `asyncio.to_thread` would.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        tell = _teller(loop, done)
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - the thread's end: the caller is told
            reason = error
            tell(lambda: done.set_exception(reason))
        else:
            tell(lambda: done.set_result(result))

    threading.Thread(target=run, name="off the event loop", daemon=True).start()
    return await done


async def at_once(function: Callable[[], T]) -> T:
    """On the event loop, for what is known not to block."""
    return function()


def _teller(
    loop: asyncio.AbstractEventLoop, done: asyncio.Future[T]
) -> Callable[[Callable[[], None]], None]:
    def settle(how: Callable[[], None]) -> None:
        if not done.done():
            how()

    def tell(how: Callable[[], None]) -> None:
        try:
            loop.call_soon_threadsafe(settle, how)
        except RuntimeError:
            # The loop was closed meanwhile: nobody waits any more.
            return

    return tell
