"""How a cache of finished work does, as an engine process tells its worker."""

from typing import Self

import msgspec

# The place that ends with the process.
IN_PROCESS = "memory"


class CacheCounts(msgspec.Struct):
    """Of one place where results are kept: memory, or the disk."""

    # Since the last telling.
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    # Now.
    n_bytes: int = 0
    n_entries: int = 0

    def take(self) -> Self:
        """What is to be told now; what happens later is told next time."""
        told = type(self)(self.hits, self.misses, self.evictions, self.n_bytes, self.n_entries)
        self.hits = self.misses = self.evictions = 0
        return told

    def add(self, told: "CacheCounts") -> None:
        """Take over what an engine process told."""
        self.hits += told.hits
        self.misses += told.misses
        self.evictions += told.evictions
        self.n_bytes, self.n_entries = told.n_bytes, told.n_entries
