"""Defines what is stored of a response, and stores it in memory if no folder is configured."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

# The memory that a record takes besides its texts.
OVERHEAD_BYTES = 512
MEMORY_AGE_S = 3600.0


@dataclass(frozen=True)
class Record:
    """A response, or a conversation, whose `previous` is its latest response.

    Args:
        id: the id of the response or of the conversation.
        previous: the id of the record that this one continues; empty if there is none.
        input: its own items as JSON, without those of earlier records.
        response: the JSON that the client got.
    """

    id: str
    previous: str
    input: bytes
    response: bytes

    @property
    def n_bytes(self) -> int:
        texts = len(self.input) + len(self.response) + len(self.id) + len(self.previous)
        return texts + OVERHEAD_BYTES


class ResponseStore(Protocol):
    """Stores the records of each owner; each owner sees only their own.

    Records that were not used for too long are dropped. When all records together are too large,
    the owner with the most bytes loses the least recently used ones.
    """

    async def put(self, owner: str, record: Record) -> None: ...

    async def get(self, owner: str, id: str) -> Record | None: ...

    async def delete(self, owner: str, id: str) -> bool:
        """Delete a record, and return whether it was stored."""

    def close(self) -> None: ...


class MemoryStore:
    """A `ResponseStore` in the memory of this process.

    Args:
        max_bytes: the limit for all records together.
        clock: returns seconds that never decrease.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._n_bytes = 0
        # Each owner's records with the time of their last use, the least recently used first.
        self._records: dict[str, OrderedDict[str, tuple[Record, float]]] = {}
        self._bytes_of: dict[str, int] = {}

    @property
    def n_bytes(self) -> int:
        return self._n_bytes

    async def put(self, owner: str, record: Record) -> None:
        self._drop(owner, record.id)
        self._records.setdefault(owner, OrderedDict())[record.id] = (record, self._clock())
        self._count(owner, record.n_bytes)
        self._forget_old()
        while self._n_bytes > self._max_bytes:
            largest = max(self._bytes_of, key=self._bytes_of.__getitem__)
            self._drop(largest, next(iter(self._records[largest])))

    async def get(self, owner: str, id: str) -> Record | None:
        self._forget_old()
        records = self._records.get(owner)
        if records is None or id not in records:
            return None
        record, _ = records[id]
        records[id] = (record, self._clock())
        records.move_to_end(id)
        return record

    async def delete(self, owner: str, id: str) -> bool:
        return self._drop(owner, id)

    def close(self) -> None:
        self._records.clear()
        self._bytes_of.clear()
        self._n_bytes = 0

    def _forget_old(self) -> None:
        oldest_s = self._clock() - MEMORY_AGE_S
        for owner in list(self._records):
            while (kept := self._records.get(owner)) and next(iter(kept.values()))[1] < oldest_s:
                self._drop(owner, next(iter(kept)))

    def _drop(self, owner: str, id: str) -> bool:
        kept = self._records.get(owner, OrderedDict()).pop(id, None)
        if kept is None:
            return False
        self._count(owner, -kept[0].n_bytes)
        if not self._records[owner]:
            del self._records[owner], self._bytes_of[owner]
        return True

    def _count(self, owner: str, n_bytes: int) -> None:
        self._n_bytes += n_bytes
        self._bytes_of[owner] = self._bytes_of.get(owner, 0) + n_bytes
