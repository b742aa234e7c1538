"""Lets large requests through one by one, so that small ones pass them.

100,000 messages take half a second to turn into the engine's structs, megabytes take as long on
the pipe to an engine that is at work, and whatever comes behind them waits. So one large request
at a time is translated, beside the event loop, and sent to its engine; the next one's turn is when
that has been prepared there. All others go at once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

LARGE_BYTES = 256 * 1024

Request = TypeVar("Request")
Body = TypeVar("Body")


class Turn:
    """One request's."""

    def __init__(self, end: Callable[[], None], threads: ThreadPoolExecutor | None) -> None:
        self._end: Callable[[], None] | None = end
        self._threads = threads

    async def translated(self, translate: Callable[[Request], Body], request: Request) -> Body:
        """`translate(request)`, beside the event loop if the request is large."""
        if self._threads is None:
            return translate(request)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, translate, request)

    def end(self) -> None:
        """The next one's turn; harmless if that was said before."""
        if self._end is not None:
            self._end()
            self._end = None


class LargeRequests:
    """The large requests of one worker."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(1)
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="large requests")

    @asynccontextmanager
    async def turn(self, n_bytes: int) -> AsyncIterator[Turn]:
        """Wait for the turn of a request of so many bytes; it ends with the block if not before."""
        if n_bytes < LARGE_BYTES:
            yield Turn(lambda: None, None)
            return
        await self._turns.acquire()
        turn = Turn(self._turns.release, self._threads)
        try:
            yield turn
        finally:
            turn.end()
