"""Gives memory that was freed back to the system."""

import ctypes
import sys


def return_freed_memory() -> None:
    """Make the allocator return the memory that it keeps for later allocations."""
    if sys.platform == "linux":
        # Only glibc has this function; other allocators return memory by themselves.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
