"""Memory and cores as Windows reports them."""

import ctypes
import struct
from typing import Any

PROCESSOR_CORE = 0
# The beginning of SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX for a core: relationship, size, flags,
# efficiency class, number of groups; and the mask and the number of its first group.
CORE = struct.Struct("<IIBB20xHQH")
GROUP_CORES = 64


def memory() -> tuple[int | None, int | None, int | None]:
    """Bytes of total and available RAM, and of the page file."""

    class MemoryStatus(ctypes.Structure):
        """The C struct MEMORYSTATUSEX."""

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
    if not _kernel32().GlobalMemoryStatusEx(ctypes.byref(status)):
        return None, None, None
    # Windows reports the commit limit as the page file's total: RAM and page file together.
    swap = max(0, int(status.total_page_file) - int(status.total))
    # With a small page file, the memory that can still be committed is the tighter limit.
    available = min(int(status.available), int(status.available_page_file))
    return int(status.total), available, swap


def physical_cores() -> int | None:
    """Physical cores of the machine; None if Windows does not report them."""

    class Relation(ctypes.Structure):
        """The C struct SYSTEM_LOGICAL_PROCESSOR_INFORMATION; its union is 16 bytes long."""

        _fields_ = (
            ("mask", ctypes.c_size_t),
            ("kind", ctypes.c_int),
            ("union", ctypes.c_uint64 * 2),
        )

    ask = _kernel32().GetLogicalProcessorInformation
    length = ctypes.c_uint32(0)
    # The first call only returns the length of the result.
    ask(None, ctypes.byref(length))
    relations = (Relation * (length.value // ctypes.sizeof(Relation)))()
    if not ask(relations, ctypes.byref(length)):
        return None
    return sum(relation.kind == PROCESSOR_CORE for relation in relations) or None


def fast_cores() -> set[int]:
    """The logical cores of the fastest kind; empty if Windows does not report them."""
    ask = _kernel32().GetLogicalProcessorInformationEx
    length = ctypes.c_uint32(0)
    ask(PROCESSOR_CORE, None, ctypes.byref(length))
    report = ctypes.create_string_buffer(length.value)
    if not length.value or not ask(PROCESSOR_CORE, report, ctypes.byref(length)):
        return set()
    return fast_cores_of(report.raw)


def fast_cores_of(report: bytes) -> set[int]:
    """Those of the highest efficiency class, which Windows calls the most performant."""
    by_class: dict[int, set[int]] = {}
    at = 0
    while at + CORE.size <= len(report):
        _, size, _, efficiency, _, mask, group = CORE.unpack_from(report, at)
        own = {GROUP_CORES * group + bit for bit in range(GROUP_CORES) if mask >> bit & 1}
        by_class.setdefault(efficiency, set()).update(own)
        at += size or len(report)
    return by_class[max(by_class)] if by_class else set()


def _kernel32() -> Any:
    return getattr(ctypes, "windll").kernel32  # noqa: B009 - unknown to mypy off Windows
