"""Lets large requests through one by one, so that small ones pass them.

100,000 messages take half a second to turn into the engine's structs, megabytes take as long on
the pipe to an engine that is at work, and whatever comes behind them waits. So one large request
at a time is translated, beside the event loop, and one at a time sent to an engine process that
prepares it; the next one's turn is when that is done. All others go at once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

LARGE_BYTES = 256 * 1024
# Whose engine processes render and tokenize; others only pass on what they get.
PREPARING = frozenset({"llama.cpp", "transformers"})

Request = TypeVar("Request")
Body = TypeVar("Body")


class Turn:
    """One request's; others wait until it ends."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end: Callable[[], None] | None = end

    def end(self) -> None:
        """Harmless if it has ended before."""
        if self._end is not None:
            self._end()
            self._end = None


class LargeRequests:
    """The large requests of one worker."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(1)
        self._translator = ThreadPoolExecutor(1, thread_name_prefix="large requests")

    async def translated(
        self, translate: Callable[[Request], Body], request: Request, n_bytes: int
    ) -> Body:
        """`translate(request)`, beside the event loop if the request is large."""
        if n_bytes < LARGE_BYTES:
            return translate(request)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._translator, translate, request)

    @asynccontextmanager
    async def turn(self, n_bytes: int, backend: str) -> AsyncIterator[Turn]:
        """Wait for the turn of a request of so many bytes; it ends with the block if not before."""
        if n_bytes < LARGE_BYTES or backend not in PREPARING:
            yield Turn(lambda: None)
            return
        await self._turns.acquire()
        turn = Turn(self._turns.release)
        try:
            yield turn
        finally:
            turn.end()
