"""Handles large requests one at a time, so that small ones can overtake them.

Converting 100,000 messages to the engine's structs takes half a second; sending megabytes through
the pipe to a busy engine takes as long, and everything behind them waits. So only one large request
at a time is translated, on a thread beside the event loop, and only one at a time is sent to an
engine process, which prepares it before the next one is sent. Small requests never wait.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

LARGE_BYTES = 256 * 1024
# Backends whose engine processes render and tokenize; others only pass requests on.
PREPARING = frozenset({"llama.cpp", "transformers"})

Request = TypeVar("Request")
Body = TypeVar("Body")


class Turn:
    """The turn of one large request; others wait until it ends."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end: Callable[[], None] | None = end

    def end(self) -> None:
        """End the turn; no effect if it has ended before."""
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
        """`translate(request)`, on a thread beside the event loop if the request is large."""
        if n_bytes < LARGE_BYTES:
            return translate(request)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._translator, translate, request)

    @asynccontextmanager
    async def turn(self, n_bytes: int, backend: str) -> AsyncIterator[Turn]:
        """Wait for the turn of a request of `n_bytes`; it ends at the latest with the block."""
        if n_bytes < LARGE_BYTES or backend not in PREPARING:
            yield Turn(lambda: None)
            return
        await self._turns.acquire()
        turn = Turn(self._turns.release)
        try:
            yield turn
        finally:
            turn.end()
