"""Keeps glibc's allocator from holding on to memory that was freed."""

import ctypes
import sys
from collections.abc import Callable
from typing import Any

# Of `mallopt`, in glibc's malloc.h.
M_ARENA_MAX = -8


def use_one_arena() -> None:
    """Let all threads of this process allocate in one place; called before there are others.

    By default each thread gets an arena of its own, up to eight for a core, and each keeps what is
    freed in between: a service under steady load grew for a quarter of an hour by a twentieth,
    though it held no more objects than before. Python's lock lets one thread allocate at a time
    anyway, so a service loses nothing; what computes in native threads should not call this.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)


def return_freed_memory() -> None:
    """Make the allocator return the memory that it keeps for later allocations."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Callable[..., Any] | None:
    """Its function; None with another allocator, which needs no such call."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
