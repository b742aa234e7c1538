"""What is kept of a response, and where: in memory unless a folder is set."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

# What a record takes beside its texts.
OVERHEAD_BYTES = 512
MEMORY_AGE_S = 3600.0


@dataclass(frozen=True)
class Record:
    """A response, or a conversation: then it is what its latest response is.

    Args:
        id: of the response or of the conversation.
        previous: id of the record that it goes on from; empty: none.
        input: its own items, as JSON; not those of the records before it.
        response: as the client got it, as JSON.
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
    """Keeps records by who they belong to; nobody sees another's.

    The least recently used go first: of whoever has most, when there are too many bytes, and all
    that are too old.
    """

    async def put(self, owner: str, record: Record) -> None: ...

    async def get(self, owner: str, id: str) -> Record | None: ...

    async def delete(self, owner: str, id: str) -> bool:
        """Whether it was there."""

    def close(self) -> None: ...


class MemoryStore:
    """
    Args:
        max_bytes: of all records.
        clock: seconds that only grow.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._n_bytes = 0
        # Of each owner, the least recently used first, with the time of that.
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
