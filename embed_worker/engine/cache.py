"""Vectors of texts that were computed before, the least recently used forgotten first.

Keys are token ids, prompt included, so that equal texts match however they were sent. A process
holds one model, so a vector cannot outlive the model that made it.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec

Key = tuple[int, bytes]
# A key's and a value's objects, beside their contents; measured on CPython 3.11.
ITEM_BYTES = 350


class CacheCounts(msgspec.Struct):
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    # Contents and bookkeeping, now.
    n_bytes: int = 0


class VectorCache:
    """Used by the front thread and the model thread.

    Args:
        max_bytes: of keys, vectors and bookkeeping; 0 keeps nothing.
        ttl_s: age at which a vector is computed anew.
    """

    def __init__(
        self, max_bytes: int, ttl_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._lock = threading.Lock()
        # Key to vector and the time it was computed.
        self._items: OrderedDict[Key, tuple[bytes, float]] = OrderedDict()
        self.counts = CacheCounts()

    def get(self, key: Key) -> bytes | None:
        with self._lock:
            found = self._items.get(key)
            if found is not None and self._clock() - found[1] >= self._ttl_s:
                self._remove(key)
                found = None
            if found is None:
                self.counts.misses += 1
                return None
            self._items.move_to_end(key)
            self.counts.hits += 1
            return found[0]

    def put(self, key: Key, vector: bytes) -> None:
        size = _size(key, vector)
        if size > self._max_bytes:
            return
        with self._lock:
            if key in self._items:
                self._remove(key)
            self._items[key] = (vector, self._clock())
            self.counts.n_bytes += size
            while self.counts.n_bytes > self._max_bytes:
                self._remove(next(iter(self._items)))
                self.counts.evictions += 1

    def clear(self) -> None:
        with self._lock:
            self._items.clear()
            self.counts.n_bytes = 0

    def _remove(self, key: Key) -> None:
        vector, _ = self._items.pop(key)
        self.counts.n_bytes -= _size(key, vector)


def _size(key: Key, vector: bytes) -> int:
    return len(key[1]) + len(vector) + ITEM_BYTES
