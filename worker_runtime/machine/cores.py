"""Which cores this process may use, and how many of them are whole ones."""

import os
import sys
from collections.abc import Collection
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")


def usable() -> Collection[int]:
    """Numbers of the logical cores."""
    if sys.platform == "linux":
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)


def physical(logical: Collection[int], cpus: Path = CPUS) -> int:
    """How many cores the `logical` ones are: two threads of one core count once."""
    if sys.platform == "win32":
        # Not at the top: it loads ctypes, which nobody needs elsewhere.
        from worker_runtime.machine import windows

        return min(windows.physical_cores() or len(logical), len(logical))
    try:
        siblings = {
            (cpus / f"cpu{core}/topology/thread_siblings_list").read_text() for core in logical
        }
    except OSError:
        # Not Linux, or a container that hides it.
        return len(logical)
    return len(siblings)
