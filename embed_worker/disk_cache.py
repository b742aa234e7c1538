"""Vectors cached on disk, for all processes of this user and across restarts.

Keys are hashes of the model's fingerprint, of how it computes, and of the token ids: another model
never finds them, and no text can be read from the file.
"""

import contextlib
import hashlib
import queue
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from embed_worker.engine.cache import Key, VectorCache
from embed_worker.vector_file import StoredVector, VectorFile
from worker_runtime.cache_counts import CacheCounts

DISK = "disk"
DIGEST_BYTES = 20
PREFIX_BYTES = 8
# Vectors that may wait to be written; further ones are not stored.
MAX_PENDING = 4096
MAX_BATCH = 256
# The use of a vector is recorded if the last record is older than this.
NOTE_AFTER_S = 300.0
FLUSH_S = 2.0
# How often the size is measured, which counts all rows.
MEASURE_S = 10.0


class DiskCache:
    """Read on the front thread; its own thread writes, so that no caller waits for the disk.

    Args:
        folder: of the file.
        identity: differs for models, and ways to run one, that give different vectors.
        vector_bytes: the size of a vector; stored vectors of another size are ignored.
        max_bytes: for all models' vectors in the file.
        ttl_s: the age after which a vector is computed again.
    """

    def __init__(
        self,
        folder: Path,
        identity: str,
        *,
        vector_bytes: int,
        max_bytes: int,
        ttl_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._identity = hashlib.blake2b(identity.encode(), digest_size=DIGEST_BYTES)
        self._vector_bytes = vector_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._reader = VectorFile(folder, max_bytes)
        self._writer = VectorFile(folder, max_bytes)
        self._was_replaced = threading.Event()
        self._pending: queue.Queue[StoredVector | bytes | None] = queue.Queue(MAX_PENDING)
        self._counts = CacheCounts()
        self._counting = threading.Lock()
        self._measure_again_s = 0.0
        self._writing = threading.Thread(target=self._write_all, name="disk cache", daemon=True)
        self._writing.start()

    def find(self, keys: Iterable[Key]) -> dict[Key, tuple[bytes, float]]:
        """The stored vectors and their ages in seconds."""
        wanted = {self._digest(key): key for key in keys}
        now_s = self._clock()
        if self._was_replaced.is_set():
            self._was_replaced.clear()
            self._reader.reopen()
        found = {}
        for row in self._reader.read(list(wanted)):
            age_s = now_s - row.computed_s
            # If the clock was set back, ages may be negative.
            if 0 <= age_s < self._ttl_s and len(row.vector) == self._vector_bytes:
                found[wanted[row.key]] = (row.vector, age_s)
                if now_s - row.used_s > NOTE_AFTER_S:
                    self._hand_over(row.key)
        with self._counting:
            self._counts.hits += len(found)
            self._counts.misses += len(wanted) - len(found)
        return found

    def put(self, key: Key, vector: bytes) -> None:
        now_s = self._clock()
        self._hand_over(StoredVector(self._digest(key), vector, now_s, now_s))

    def take_counts(self) -> CacheCounts:
        with self._counting:
            return self._counts.take()

    def close(self) -> None:
        """Write what is pending, if that is quick."""
        self._hand_over(None)
        self._writing.join(FLUSH_S)

    def _digest(self, key: Key) -> bytes:
        n_prefix, ids = key
        digest = self._identity.copy()
        digest.update(n_prefix.to_bytes(PREFIX_BYTES, "little"))
        digest.update(ids)
        return digest.digest()

    def _hand_over(self, item: StoredVector | bytes | None) -> None:
        # If the queue is full, the disk is slower than the model; a later request computes the text
        # again.
        with contextlib.suppress(queue.Full):
            self._pending.put_nowait(item)

    def _write_all(self) -> None:
        self._writer.forget(self._clock() - self._ttl_s)
        self._count(0)
        while (items := self._next_items()) is not None:
            if self._reader.is_damaged or self._writer.is_damaged:
                self._writer.replace()
                self._reader.is_damaged = False
                self._was_replaced.set()
            fresh = [item for item in items if isinstance(item, StoredVector)]
            used = [item for item in items if isinstance(item, bytes)]
            self._count(self._writer.write(fresh, used, self._clock()))
        self._writer.close()

    def _next_items(self) -> list[StoredVector | bytes] | None:
        """The waiting items, as soon as there are any; None: no more will come."""
        items: list[StoredVector | bytes] = []
        item = self._pending.get()
        while item is not None:
            items.append(item)
            if len(items) == MAX_BATCH or self._pending.empty():
                return items
            item = self._pending.get()
        if items:
            self._pending.put(None)
        return items or None

    def _count(self, n_evicted: int) -> None:
        with self._counting:
            self._counts.evictions += n_evicted
        if time.monotonic() < self._measure_again_s:
            return
        size = self._writer.size()
        self._measure_again_s = time.monotonic() + MEASURE_S
        with self._counting:
            self._counts.n_bytes, self._counts.n_entries = size.n_bytes, size.n_entries


class TwoTierCache:
    """Looks in memory first, then on disk."""

    def __init__(self, memory: VectorCache, disk: DiskCache) -> None:
        self._memory = memory
        self._disk = disk

    def find(self, keys: Iterable[Key]) -> dict[Key, bytes]:
        wanted = list(keys)
        found = self._memory.find(wanted)
        missing = [key for key in wanted if key not in found]
        if missing:
            for key, (vector, age_s) in self._disk.find(missing).items():
                found[key] = vector
                self._memory.put(key, vector, age_s=age_s)
        return found

    def put(self, key: Key, vector: bytes) -> None:
        self._memory.put(key, vector)
        self._disk.put(key, vector)

    def clear(self) -> None:
        self._memory.clear()

    def take_counts(self) -> dict[str, CacheCounts]:
        return self._memory.take_counts() | {DISK: self._disk.take_counts()}
