"""The cores that this process may use: logical, the fastest, physical, and the time it may use
them."""

import os
import sys
from collections.abc import Collection
from pathlib import Path

from common.cgroup import groups

DEVICES = Path("/sys/devices")
CPUS = DEVICES / "system" / "cpu"
# Cores with less of the largest one's capacity are of the economical kind.
FAST_SHARE = 0.5


def usable() -> Collection[int]:
    """The numbers of the logical cores that this process may use."""
    if sys.platform == "linux":
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)


def fastest(logical: Collection[int], devices: Path = DEVICES) -> Collection[int]:
    """Those of the `logical` cores that are of the fast kind, where a processor has two kinds.

    Threads that compute a model wait for the slowest after each matrix, so a core that saves power
    would hold up all others. If only such cores may be used, these.
    """
    if sys.platform == "win32":
        # Imported here because it loads ctypes, which other systems do not need.
        from worker_runtime.machine import windows

        fast = windows.fast_cores()
    elif sys.platform == "darwin":
        # They have the first numbers. Programs cannot choose cores there, only how many.
        n_fast = _sysctl("hw.perflevel0.logicalcpu")
        fast = set(range(n_fast)) if n_fast else set(logical)
    else:
        fast = _intel_fast(devices) or _capable(logical, devices / "system" / "cpu")
    return sorted(fast & set(logical)) or logical


def for_models() -> int:
    """How many physical cores of the fast kind this process may use."""
    return physical(fastest(usable()))


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


def _intel_fast(devices: Path) -> set[int]:
    """The cores that Linux counts with the fast kind; empty unless there are two kinds."""
    ranges = [part.split("-") for part in _text(devices / "cpu_core" / "cpus").split(",") if part]
    return {core for ends in ranges for core in range(int(ends[0]), int(ends[-1]) + 1)}


def _capable(logical: Collection[int], cpus: Path) -> set[int]:
    """By what Linux knows of ARM's cores."""
    capacities = {core: _text(cpus / f"cpu{core}" / "cpu_capacity") for core in logical}
    known = {core: int(capacity) for core, capacity in capacities.items() if capacity.isdigit()}
    least = FAST_SHARE * max(known.values(), default=0)
    return {core for core in logical if known.get(core, least) >= least}


def _sysctl(name: str) -> int:
    """A number that macOS knows; 0 if it does not."""
    # Imported here because other systems do not need it.
    import ctypes

    value, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    failed = ctypes.CDLL(None).sysctlbyname(
        name.encode(), ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0)
    )
    return 0 if failed else value.value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        # The root group has no such file.
        return ""
