"""Memory of the machine as Windows tells it: a program needs free RAM and a promise to back it.

Windows refuses memory once all it could back, in RAM and page files, is promised (the commit
limit), though RAM may be free; what is left of that counts as much as free RAM.
"""

import sys

if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    class _MemoryStatus(ctypes.Structure):
        """MEMORYSTATUSEX; its "page file" figures are the commit limit and what is left of it."""

        _fields_ = (
            ("dwLength", wintypes.DWORD),
            ("dwMemoryLoad", wintypes.DWORD),
            ("ullTotalPhys", ctypes.c_uint64),
            ("ullAvailPhys", ctypes.c_uint64),
            ("ullTotalPageFile", ctypes.c_uint64),
            ("ullAvailPageFile", ctypes.c_uint64),
            ("ullTotalVirtual", ctypes.c_uint64),
            ("ullAvailVirtual", ctypes.c_uint64),
            ("ullAvailExtendedVirtual", ctypes.c_uint64),
        )

    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel32.GlobalMemoryStatusEx.argtypes = (ctypes.POINTER(_MemoryStatus),)
    _kernel32.GlobalMemoryStatusEx.restype = wintypes.BOOL

    def total_and_available() -> tuple[int, int]:
        """Bytes.

        Raises:
            OSError: the system would not tell.
        """
        status = _MemoryStatus(dwLength=ctypes.sizeof(_MemoryStatus))
        if not _kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            raise ctypes.WinError(ctypes.get_last_error())
        return status.ullTotalPhys, min(status.ullAvailPhys, status.ullAvailPageFile)
