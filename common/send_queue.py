"""A queue of messages that wait to be written to a stream, for gateway and workers."""

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")
# Small calls and their replies: a message with this many stays far below gRPC's limit.
MAX_ITEMS_TOGETHER = 64


class SendQueue(Generic[T]):
    """Items that wait at the same time are sent in one message."""

    def __init__(self) -> None:
        self._items: list[T] = []
        self._closed = False
        self._changed = asyncio.Event()

    def put(self, item: T) -> None:
        self._items.append(item)
        self._changed.set()

    def close(self) -> None:
        """Mark the end: no more items follow."""
        self._closed = True
        self._changed.set()

    async def take(self) -> list[T]:
        """Wait for items and return those of the next message; empty after `close`."""
        while not self._items and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        taken, self._items = self._items[:MAX_ITEMS_TOGETHER], self._items[MAX_ITEMS_TOGETHER:]
        return taken
