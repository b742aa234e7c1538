"""RAM and page file of this machine, from the system itself: cheap, and without psutil."""

import sys
from dataclasses import dataclass
from pathlib import Path

GIB = 1024**3


@dataclass(frozen=True)
class Memory:
    """Bytes; None where the system does not say."""

    total_bytes: int | None = None
    available_bytes: int | None = None
    swap_bytes: int | None = None


def memory() -> Memory:
    """This machine's memory now."""
    if sys.platform == "win32":
        return _windows()
    if sys.platform.startswith("linux"):
        return from_meminfo(Path("/proc/meminfo").read_text(encoding="ascii"))
    return Memory()


def from_meminfo(text: str) -> Memory:
    """What Linux writes in /proc/meminfo, in KiB."""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    sizes = {name: int(value.split()[0]) * 1024 for name, value in fields.items()}
    return Memory(sizes.get("MemTotal"), sizes.get("MemAvailable"), sizes.get("SwapTotal"))


def _windows() -> Memory:
    # Not at the top: elsewhere nobody needs it.
    import ctypes

    class MemoryStatus(ctypes.Structure):
        """MEMORYSTATUSEX."""

        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load_percent", ctypes.c_uint32),
            ("total", ctypes.c_uint64),
            ("available", ctypes.c_uint64),
            ("total_page_file", ctypes.c_uint64),
            ("available_page_file", ctypes.c_uint64),
            ("total_virtual", ctypes.c_uint64),
            ("available_virtual", ctypes.c_uint64),
            ("available_extended_virtual", ctypes.c_uint64),
        )

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    kernel32 = getattr(ctypes, "windll").kernel32  # noqa: B009 - unknown to mypy off Windows
    if not kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return Memory()
    # What Windows calls the page file's total is the commit limit: RAM and page file together.
    swap = max(0, int(status.total_page_file) - int(status.total))
    return Memory(int(status.total), int(status.available), swap)
