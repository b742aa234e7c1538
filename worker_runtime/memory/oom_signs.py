"""Recognises a lack of memory from exceptions, library messages and exit codes."""

import errno
import re
from typing import Literal, get_args

# What ran out: memory, the page file (Windows) or GPU memory; "killed": the kernel's OOM killer.
Shortage = Literal["memory", "page_file", "gpu_memory", "killed"]
SHORTAGES: tuple[Shortage, ...] = get_args(Shortage)

# Windows: ERROR_COMMITMENT_LIMIT.
PAGE_FILE_ERROR = 1455
# ERROR_NOT_ENOUGH_MEMORY, ERROR_OUTOFMEMORY, ERROR_NO_SYSTEM_RESOURCES.
WINDOWS_MEMORY_ERRORS = frozenset({8, 14, 1450})
# Exit codes: STATUS_NO_MEMORY, STATUS_COMMITMENT_LIMIT.
WINDOWS_STATUS: dict[int, Shortage] = {0xC0000017: "memory", 0xC000012D: "page_file"}

_GPU = re.compile(
    r"(?:CUDA|HIP|XPU|MPS backend)(?: error:)? out of memory|cudaMalloc failed"
    r"|CUBLAS_STATUS_ALLOC_FAILED|OutOfDeviceMemory|Device memory allocation of size \d+ failed",
    re.IGNORECASE,
)
_PAGE_FILE = re.compile(
    # The error number, in the forms that Python, Rust and others write; it is the same in any
    # language.
    r"(?:error|errno|code)\]?[\s:=#(]{0,3}1455\b|0x800705AF"
    r"|paging file|\bpage ?file\b|pagefile\.sys|分頁檔|页面文件|分页文件|頁面檔案",
    re.IGNORECASE,
)
_MEMORY = re.compile(
    r"out of memory|out_of_memory|MemoryError|bad_alloc|bad allocation|ENOMEM"
    r"|(?:not enough|insufficient) memory|DefaultCPUAllocator"
    # Except messages after which the library continues in another way.
    r"|(?:failed|unable) to allocate(?!.*(?:pinned memory|falling back|GPR|register))"
    r"|(?:cannot|can't|could not|couldn't) (?:allocate|reserve)(?!.*(?:descriptor|register))"
    r"|(?:os error|errno) 12\b|MapViewOfFile failed|CreateFileMapping\w? failed"
    r"|內存不足|内存不足|記憶體不足|存储空间不足",
    re.IGNORECASE,
)


def shortage_in_text(text: str) -> Shortage | None:
    """Which kind of memory a library's message says is lacking; else None."""
    if _GPU.search(text):
        return "gpu_memory"
    if _PAGE_FILE.search(text):
        return "page_file"
    return "memory" if _MEMORY.search(text) else None


def shortage_of(error: BaseException) -> Shortage | None:
    """Which kind of memory was lacking when `error` was raised; None if it has another cause."""
    if isinstance(error, OSError):
        number = getattr(error, "winerror", None)
        if number == PAGE_FILE_ERROR:
            return "page_file"
        if number in WINDOWS_MEMORY_ERRORS or (number is None and error.errno == errno.ENOMEM):
            return "memory"
    found = shortage_in_text(f"{type(error).__name__}: {error}")
    return found or ("memory" if isinstance(error, MemoryError) else None)
