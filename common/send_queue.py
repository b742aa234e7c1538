"""What waits to be written to a stream, on either side."""

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")
# Small calls and their replies: a message of so many stays far below what gRPC takes.
MAX_ITEMS_TOGETHER = 64


class SendQueue(Generic[T]):
    """Items that wait together leave together."""

    def __init__(self) -> None:
        self._items: list[T] = []
        self._closed = False
        self._changed = asyncio.Event()

    def put(self, item: T) -> None:
        self._items.append(item)
        self._changed.set()

    def close(self) -> None:
        """Nothing more comes."""
        self._closed = True
        self._changed.set()

    async def take(self) -> list[T]:
        """The items of the next message, as soon as there are any; none once it is closed."""
        while not self._items and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        taken, self._items = self._items[:MAX_ITEMS_TOGETHER], self._items[MAX_ITEMS_TOGETHER:]
        return taken
