"""Measures the memory of processes and of the machine."""

import sys
from pathlib import Path
from typing import Protocol

import msgspec
import psutil

from common.cgroup import allowances, groups
from worker_runtime.machine import from_meminfo, windows
from worker_runtime.memory.budget import container_headroom_bytes, default_headroom_bytes
from worker_runtime.memory.pressure import Stall, read_stall


class ProcessMemory(msgspec.Struct, frozen=True):
    """Resident bytes: anonymous (heap, caches), mapped files, and the peak of both together."""

    anonymous_bytes: int = 0
    mapped_bytes: int = 0
    peak_bytes: int = 0

    @property
    def resident_bytes(self) -> int:
        return self.anonymous_bytes + self.mapped_bytes


def process_memory(pid: int) -> ProcessMemory:
    """The memory of a process now; all zero if there is no such process."""
    if sys.platform == "linux":
        return _from_status(Path(f"/proc/{pid}/status"))
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return ProcessMemory()
    resident = int(memory.rss)
    # Windows reports private bytes, which may be paged out; other systems do not separate the two.
    anonymous = min(int(getattr(memory, "private", resident)), resident)
    peak = int(getattr(memory, "peak_wset", resident))
    return ProcessMemory(anonymous, resident - anonymous, peak)


def _from_status(path: Path) -> ProcessMemory:
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return ProcessMemory()
    fields = dict(line.split(":", 1) for line in lines if line.endswith(" kB"))
    kib = {name: int(value.split()[0]) for name, value in fields.items()}
    mapped = kib.get("RssFile", 0) + kib.get("RssShmem", 0)
    return ProcessMemory(kib.get("RssAnon", 0) * 1024, mapped * 1024, kib.get("VmHWM", 0) * 1024)


class MachineMemory(msgspec.Struct, frozen=True):
    """Bytes of the machine, or of the container if that has less.

    Args:
        headroom_bytes: part of the available memory that should stay free; None: as usual for a
            machine of that size.
        container_bytes: limit of the container or control group that leaves the least memory; None:
            the machine itself does.
        machine_bytes: free for models in the whole machine, if a container or control group leaves
            less; None: the same as here.
    """

    total_bytes: int
    available_bytes: int
    headroom_bytes: int | None = None
    container_bytes: int | None = None
    machine_bytes: int | None = None


class MemoryProbe(Protocol):
    """Measures memory; tests replace it."""

    def machine(self) -> MachineMemory: ...

    def resident_bytes(self, pid: int) -> int:
        """Resident size of a process; 0 if there is no such process."""

    def process(self, pid: int) -> ProcessMemory:
        """The memory of a process; all zero if there is no such process."""

    def stall(self) -> Stall:
        """How much programs waited for memory during the last ten seconds."""


class SystemMemoryProbe:
    """Reads the operating system's figures.

    Args:
        root: the folder that contains /proc and /sys on Linux.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def machine(self) -> MachineMemory:
        if sys.platform == "linux":
            return _linux(self._root)
        if sys.platform == "win32":
            total, available, _ = windows.memory()
            if total is not None and available is not None:
                return MachineMemory(total, available)
        memory = psutil.virtual_memory()
        return MachineMemory(int(memory.total), int(memory.available))

    def resident_bytes(self, pid: int) -> int:
        try:
            return int(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            return 0

    def process(self, pid: int) -> ProcessMemory:
        return process_memory(pid)

    def stall(self) -> Stall:
        own = (group.folder / "memory.pressure" for group in groups(self._root))
        stalls = [read_stall(file) for file in (self._root / "proc/pressure/memory", *own)]
        # A container at its own limit stalls while the rest of the machine does not.
        return Stall(max(s.some for s in stalls), max(s.full for s in stalls))


def _linux(root: Path) -> MachineMemory:
    total, available, _ = from_meminfo((root / "proc/meminfo").read_text(encoding="ascii"))
    groups_above = list(allowances(root))
    least = min([available or 0, *(group.left_bytes for group in groups_above)])
    # Each keeps some of its own free: a small container of a busy machine is bounded by either.
    free = whole = (available or 0) - default_headroom_bytes(total or 0)
    container = None
    for group in groups_above:
        left = group.left_bytes - container_headroom_bytes(group.limit_bytes)
        if left < free:
            free, container = left, group.limit_bytes
    return MachineMemory(
        total_bytes=min([total or 0, *(group.limit_bytes for group in groups_above)]),
        available_bytes=least,
        headroom_bytes=least - free,
        container_bytes=container,
        machine_bytes=whole if groups_above else None,
    )
