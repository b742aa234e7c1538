"""How much memory there is: of the machine, within this process's cgroup, of one process.

Page cache counts as available (the kernel gives it up), so a cgroup's free memory is its limit
minus what is used without inactive file pages.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec
import psutil

from worker_runtime.memory.process_memory import ProcessMemory, process_memory

# cgroup v1 writes "no limit" as the largest page-aligned int64.
UNLIMITED_BYTES = 1 << 60


_ReadLimit = Callable[[Path], tuple[int, int] | None]


class MachineMemory(msgspec.Struct, frozen=True):
    total_bytes: int
    available_bytes: int


class MemoryProbe(Protocol):
    def machine(self) -> MachineMemory: ...

    def resident_bytes(self, pid: int) -> int:
        """Resident size of a process; 0 if there is none."""

    def process(self, pid: int) -> ProcessMemory:
        """What a process holds; all zero if there is none."""


class SystemMemoryProbe:
    """The real one."""

    def machine(self) -> MachineMemory:
        memory = psutil.virtual_memory()
        total, available = int(memory.total), int(memory.available)
        for limit, used in _cgroup_limits():
            total = min(total, limit)
            available = min(available, max(limit - used, 0))
        return MachineMemory(total, available)

    def resident_bytes(self, pid: int) -> int:
        try:
            return int(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            return 0

    def process(self, pid: int) -> ProcessMemory:
        return process_memory(pid)


def _cgroup_limits() -> Iterator[tuple[int, int]]:
    """(limit, bytes used without page cache) of each limited cgroup above this process."""
    if sys.platform != "linux":
        return
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _limits(Path("/sys/fs/cgroup"), path, _limit_v2)
        elif "memory" in controllers.split(","):
            yield from _limits(Path("/sys/fs/cgroup/memory"), path, _limit_v1)


def _limits(root: Path, path: str, read: _ReadLimit) -> Iterator[tuple[int, int]]:
    parts = [part for part in path.split("/") if part and part != ".."]
    for depth in range(len(parts), -1, -1):
        found = read(root.joinpath(*parts[:depth]))
        if found is not None and found[0] < UNLIMITED_BYTES:
            yield found


def _limit_v2(group: Path) -> tuple[int, int] | None:
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    if limit is None or used is None:
        return None
    return limit, used - _stat(group, "inactive_file")


def _limit_v1(group: Path) -> tuple[int, int] | None:
    limit = _number(group / "memory.limit_in_bytes")
    used = _number(group / "memory.usage_in_bytes")
    if limit is None or used is None:
        return None
    return limit, used - _stat(group, "total_inactive_file")


def _stat(group: Path, name: str) -> int:
    for line in _lines(group / "memory.stat"):
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _number(path: Path) -> int | None:
    """The number in a cgroup file; None if the file is missing or says "max"."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        # Not mounted, or of another cgroup namespace: then it limits nothing that we can see.
        return []
