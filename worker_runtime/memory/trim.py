"""Gives back memory that nobody uses: of start-up, and of caches that were dropped."""

import ctypes
import sys

from common.gc_tuning import freeze_startup_objects


def release_start_up_memory() -> None:
    """What imports took and do not need any more: some MB of a worker's 50."""
    freeze_startup_objects()
    return_freed_memory()


def return_freed_memory() -> None:
    """Hand what the allocator keeps for later to the system."""
    if sys.platform == "linux":
        # Absent from other C libraries than glibc, whose allocators give back by themselves.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
