"""Hits, misses and size of a cache of past work, as an engine process reports them."""

from typing import Self

import msgspec

# The cache that ends with the process.
IN_PROCESS = "memory"


class CacheCounts(msgspec.Struct):
    """Counts of one cache: in memory or on disk."""

    # Since the last report.
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    # At present.
    n_bytes: int = 0
    n_entries: int = 0

    def take(self) -> Self:
        """Return the counts to report now and begin anew with zero."""
        taken = type(self)(self.hits, self.misses, self.evictions, self.n_bytes, self.n_entries)
        self.hits = self.misses = self.evictions = 0
        return taken

    def add(self, reported: "CacheCounts") -> None:
        """Add the counts of a report; sizes are replaced."""
        self.hits += reported.hits
        self.misses += reported.misses
        self.evictions += reported.evictions
        self.n_bytes, self.n_entries = reported.n_bytes, reported.n_entries
