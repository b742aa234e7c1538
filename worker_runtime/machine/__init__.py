"""The machine's memory, swap and cores, and a container's limits, by which settings are chosen.

They are read once at the start, with the standard library alone, because the supervisor, which
must stay small, reads them, too.
"""

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from common.cgroup import allowances
from worker_runtime.machine import cores

OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
# The Linux mode that refuses allocations beyond swap and a share of RAM (vm.overcommit_memory).
STRICT = 2
# The packages that weights in 4 or 8 bits need.
QUANTIZING = ("bitsandbytes", "accelerate")


@dataclass(frozen=True)
class Machine:
    """Memory and cores of this machine.

    Args:
        total_bytes, available_bytes, swap_bytes: of RAM, and of swap or page file; None if the
            system does not report it. `available_bytes` respects a container's limit.
        limit_bytes: the tightest memory limit of the containers or control groups around this
            process.
        cores: logical cores that this process may use.
        physical_cores: how many physical cores these are; of the fast kind, if there are two.
        quota_cores: processor time that a container may use, in cores; None: no limit.
        overcommit: the Linux mode of vm.overcommit_memory.
        quantizes: whether the packages for weights in 4 or 8 bits are installed.
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
        """Memory for everything that runs here: RAM, or the container's limit if that is less."""
        return _least(self.total_bytes, self.limit_bytes)


def read_machine() -> Machine:
    """Read this machine's figures."""
    total, available, swap = _memory()
    groups = list(allowances())
    usable = cores.usable()
    fastest = cores.fastest(usable)
    return Machine(
        total_bytes=total,
        available_bytes=_least(available, *(group.left_bytes for group in groups)),
        swap_bytes=swap,
        limit_bytes=_least(*(group.limit_bytes for group in groups)),
        cores=len(usable),
        physical_cores=cores.physical(fastest),
        quota_cores=cores.quota(),
        overcommit=_overcommit(),
        quantizes=all(map(importlib.util.find_spec, QUANTIZING)),
    )


def from_meminfo(text: str) -> tuple[int | None, int | None, int | None]:
    """Total, available and swap bytes from the text of /proc/meminfo, which is in KiB."""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    sizes = {name: int(value.split()[0]) * 1024 for name, value in fields.items()}
    # Old kernels and the /proc of some containers have no MemAvailable.
    parts = [sizes.get(name, 0) for name in ("MemFree", "Cached", "Buffers")]
    available = sizes.get("MemAvailable", sum(parts) if any(parts) else None)
    return sizes.get("MemTotal"), available, sizes.get("SwapTotal")


def _overcommit() -> int | None:
    try:
        return int(OVERCOMMIT.read_text(encoding="ascii"))
    except (OSError, ValueError):
        # Not Linux, or a container that hides the file.
        return None


def _memory() -> tuple[int | None, int | None, int | None]:
    if sys.platform == "win32":
        # Imported here because it loads ctypes, which other systems do not need.
        from worker_runtime.machine import windows

        return windows.memory()
    if sys.platform == "linux":
        return from_meminfo(Path("/proc/meminfo").read_text(encoding="ascii"))
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None, None


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)
