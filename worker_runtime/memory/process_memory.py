"""What one process holds in memory, told apart by whether the system could take it back."""

import sys
from pathlib import Path

import msgspec
import psutil


class ProcessMemory(msgspec.Struct, frozen=True):
    """Resident bytes: anonymous ones (heap, caches), pages of mapped files, and the most so far."""

    anonymous_bytes: int = 0
    mapped_bytes: int = 0
    peak_bytes: int = 0

    @property
    def resident_bytes(self) -> int:
        return self.anonymous_bytes + self.mapped_bytes


def process_memory(pid: int) -> ProcessMemory:
    """Of the process now; all zero if there is none."""
    if sys.platform == "linux":
        return _from_status(Path(f"/proc/{pid}/status"))
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return ProcessMemory()
    resident = int(memory.rss)
    # Windows tells private bytes, which may be paged out; elsewhere nothing tells them apart.
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
