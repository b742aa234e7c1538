"""Returns unused memory to the system: after start-up, and after caches were dropped."""

import ctypes
import sys

from common.gc_tuning import freeze_startup_objects


def release_start_up_memory() -> None:
    """Free what only imports needed: some MB of a worker's 50."""
    freeze_startup_objects()
    return_freed_memory()


def return_freed_memory() -> None:
    """Make the allocator return the memory that it keeps for later allocations."""
    if sys.platform == "linux":
        # Only glibc has this function; other allocators return memory by themselves.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
