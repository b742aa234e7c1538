"""Which cores this process may use, how many are whole ones, and how much time of them it gets."""

import os
import sys
from collections.abc import Collection
from pathlib import Path

from common.cgroup import groups

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


def quota(root: Path = Path("/")) -> float | None:
    """Processor time that the control groups above this process let it take, in cores; None: all.

    Args:
        root: where /proc and what is mounted are looked for.
    """
    found = []
    for group in groups(root, "cpu"):
        share, _, period = _text(group.folder / "cpu.max").partition(" ")
        share = share or _text(group.folder / "cpu.cfs_quota_us")
        period = period or _text(group.folder / "cpu.cfs_period_us")
        # "max" or -1: no limit.
        if share.isdigit() and period.isdigit():
            found.append(int(share) / int(period))
    return min(found, default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        # The group that is mounted has none.
        return ""
