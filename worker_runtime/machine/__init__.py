"""This machine, as far as settings are chosen by it: memory, swap, cores, a container's limits.

Read once at the start and from the system itself, with the standard library alone: the supervisor
reads it too, and stays small.
"""

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from common.cgroup import allowances
from worker_runtime.machine import cores

GIB = 1024**3
OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
# Linux's mode in which an allocation is refused that swap and a share of RAM do not cover.
STRICT = 2
# What weights in 4 or 8 bits need.
QUANTIZING = ("bitsandbytes", "accelerate")


@dataclass(frozen=True)
class Machine:
    """
    Args:
        total_bytes, available_bytes, swap_bytes: of RAM and swap or page file; None: the system
            does not say. `available_bytes` is what a container's limit leaves, if that is less.
        limit_bytes: the tightest memory limit of the containers or groups that this runs in.
        cores: logical ones that this process may use.
        physical_cores: those among them that share nothing.
        quota_cores: processor time that a container may take, in cores; None: all.
        overcommit: Linux's mode.
        quantizes: what weights in 4 or 8 bits need is installed.
    """

    total_bytes: int | None = None
    available_bytes: int | None = None
    swap_bytes: int | None = None
    limit_bytes: int | None = None
    cores: int = 1
    physical_cores: int = 1
    quota_cores: float | None = None
    overcommit: int | None = None
    quantizes: bool = False

    @property
    def memory_bytes(self) -> int | None:
        """What there is for all that runs here: RAM, or the container's limit where it is less."""
        return _least(self.total_bytes, self.limit_bytes)


def read_machine() -> Machine:
    """This machine now."""
    total, available, swap = _memory()
    groups = list(allowances())
    usable = cores.usable()
    return Machine(
        total_bytes=total,
        available_bytes=_least(available, *(group.left_bytes for group in groups)),
        swap_bytes=swap,
        limit_bytes=_least(*(group.limit_bytes for group in groups)),
        cores=len(usable),
        physical_cores=cores.physical(usable),
        quota_cores=cores.quota(),
        overcommit=_overcommit(),
        quantizes=all(map(importlib.util.find_spec, QUANTIZING)),
    )


def from_meminfo(text: str) -> tuple[int | None, int | None, int | None]:
    """Total, available and swap from what Linux writes in /proc/meminfo, in KiB."""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    sizes = {name: int(value.split()[0]) * 1024 for name, value in fields.items()}
    # Old kernels, and some containers' own /proc, leave out what is believed to be available.
    parts = [sizes.get(name, 0) for name in ("MemFree", "Cached", "Buffers")]
    available = sizes.get("MemAvailable", sum(parts) if any(parts) else None)
    return sizes.get("MemTotal"), available, sizes.get("SwapTotal")


def _overcommit() -> int | None:
    try:
        return int(OVERCOMMIT.read_text(encoding="ascii"))
    except (OSError, ValueError):
        # Not Linux, or a container that hides it.
        return None


def _memory() -> tuple[int | None, int | None, int | None]:
    if sys.platform == "win32":
        # Not at the top: it loads ctypes, which nobody needs elsewhere.
        from worker_runtime.machine import windows

        return windows.memory()
    if sys.platform == "linux":
        return from_meminfo(Path("/proc/meminfo").read_text(encoding="ascii"))
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None, None


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)
