"""The cores that this process may use: logical, physical, and the time it may use them."""

import os
import sys
from collections.abc import Collection
from pathlib import Path

from worker_runtime.machine.cgroup import groups

CPUS = Path("/sys/devices/system/cpu")


def usable() -> Collection[int]:
    """The numbers of the logical cores that this process may use."""
    if sys.platform == "linux":
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)


def physical(logical: Collection[int], cpus: Path = CPUS) -> int:
    """How many physical cores the `logical` ones belong to."""
    if sys.platform == "win32":
        # Imported here because it loads ctypes, which other systems do not need.
        from worker_runtime.machine import windows

        return min(windows.physical_cores() or len(logical), len(logical))
    try:
        siblings = {
            (cpus / f"cpu{core}/topology/thread_siblings_list").read_text() for core in logical
        }
    except OSError:
        # Not Linux, or a container that hides the files.
        return len(logical)
    return len(siblings)


def quota(root: Path = Path("/")) -> float | None:
    """Processor time that the control groups around this process permit, in cores; None: no limit.

    Args:
        root: the folder that contains /proc and the mounted file systems.
    """
    found = []
    for group in groups(root, "cpu"):
        share, _, period = _text(group.folder / "cpu.max").partition(" ")
        share = share or _text(group.folder / "cpu.cfs_quota_us")
        period = period or _text(group.folder / "cpu.cfs_period_us")
        # "max" and -1 mean no limit.
        if share.isdigit() and period.isdigit():
            found.append(int(share) / int(period))
    return min(found, default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        # The root group has no such file.
        return ""
