"""A cache of vectors that evicts the least recently used.

Keys are token ids, prompt included, so that equal texts match in whatever form they were sent. A
process holds one model, so a vector in its memory cannot outlive the model that computed it.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from worker_runtime.cache_counts import IN_PROCESS, CacheCounts

Key = tuple[int, bytes]
# The objects of a key and a value, without their contents; measured on CPython 3.11.
ITEM_BYTES = 350


class Cache(Protocol):
    """Read by the front thread, written by the model thread."""

    def find(self, keys: Iterable[Key]) -> dict[Key, bytes]:
        """The cached vectors for `keys`."""

    def put(self, key: Key, vector: bytes) -> None: ...

    def clear(self) -> None:
        """Remove all vectors from memory; vectors on disk stay."""

    def take_counts(self) -> Mapping[str, CacheCounts]:
        """The counts since the last call, by the place where vectors are stored."""


class VectorCache:
    """A cache in memory.

    Args:
        max_bytes: for keys, vectors and bookkeeping; 0 turns the cache off.
        ttl_s: the age after which a vector is computed again.
    """

    def __init__(
        self, max_bytes: int, ttl_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._lock = threading.Lock()
        # The vector and the time at which it was computed, by key.
        self._items: OrderedDict[Key, tuple[bytes, float]] = OrderedDict()
        self.counts = CacheCounts()

    def find(self, keys: Iterable[Key]) -> dict[Key, bytes]:
        found = {}
        with self._lock:
            for key in keys:
                if (vector := self._get(key)) is not None:
                    found[key] = vector
        return found

    def put(self, key: Key, vector: bytes, *, age_s: float = 0.0) -> None:
        """Store a vector.

        Args:
            age_s: how long ago it was computed.
        """
        size = _size(key, vector)
        if size > self._max_bytes:
            return
        with self._lock:
            if key in self._items:
                self._remove(key)
            self._items[key] = (vector, self._clock() - age_s)
            self.counts.n_bytes += size
            while self.counts.n_bytes > self._max_bytes:
                self._remove(next(iter(self._items)))
                self.counts.evictions += 1
            self.counts.n_entries = len(self._items)

    def take_counts(self) -> dict[str, CacheCounts]:
        with self._lock:
            return {IN_PROCESS: self.counts.take()}

    def clear(self) -> None:
        with self._lock:
            self._items.clear()
            self.counts.n_bytes = self.counts.n_entries = 0

    def _get(self, key: Key) -> bytes | None:
        kept = self._items.get(key)
        if kept is not None and self._clock() - kept[1] >= self._ttl_s:
            self._remove(key)
            kept = None
        if kept is None:
            self.counts.misses += 1
            return None
        self._items.move_to_end(key)
        self.counts.hits += 1
        return kept[0]

    def _remove(self, key: Key) -> None:
        vector, _ = self._items.pop(key)
        self.counts.n_bytes -= _size(key, vector)
        self.counts.n_entries = len(self._items)


def _size(key: Key, vector: bytes) -> int:
    return len(key[1]) + len(vector) + ITEM_BYTES
