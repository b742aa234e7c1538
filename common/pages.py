"""Memory in whole pages of the system."""

import mmap
import sys


def pages(n_bytes: int) -> mmap.mmap:
    """Memory that the system has back as soon as it is dropped, which malloc does not promise."""
    if sys.platform == "win32":
        return mmap.mmap(-1, n_bytes)
    return mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
