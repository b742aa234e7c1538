"""Has the pages of large new buffers ready while the first of them is filled.

The kernel clears a page when it is first written to. A thread that reads a file waits for each of
them, which took half of the time of a load: 5.0 s for 1.8 GiB where 2.6 s are enough, and 21 s
instead of 10 in a virtual machine that has to get its memory back from its host. One call for many
pages is also faster than an interruption for each.
"""

import contextlib
import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

# Anonymous memory of this size is a buffer for weights.
MIN_BYTES = 64 << 20
# A load that fails waits for one such call, at most.
STEP_BYTES = 16 << 20
POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, of Linux 5.14; older kernels refuse it
MAPS = Path("/proc/self/maps")


class Range(NamedTuple):
    begin: int
    end: int


@contextlib.contextmanager
def prefaulted() -> Iterator[Callable[[], None]]:
    """Gives a function that is to be called when the buffers exist; later calls do nothing.

    What they hold stays as it is. Without a kernel that offers this, nothing happens.
    """
    if sys.platform != "linux":
        yield lambda: None
        return
    before = list(_large_ranges())
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def begin() -> None:
        if not threads:
            new = [part for each in _large_ranges() for part in _without(before, each)]
            thread = threading.Thread(target=_populate, args=(new, ended), name="prefault")
            threads.append(thread)
            thread.start()

    try:
        yield begin
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _large_ranges() -> Iterator[Range]:
    """Writable anonymous memory of this process."""
    for line in MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
        addresses, rights, *_, name = [*line.split(maxsplit=5), ""][:6]
        if rights == "rw-p" and name in ("", "[heap]"):
            found = Range(*(int(address, 16) for address in addresses.split("-")))
            if found.end - found.begin >= MIN_BYTES:
                yield found


def _without(taken: list[Range], whole: Range) -> Iterator[Range]:
    """What of `whole` is in none of `taken`: the kernel lists neighbours as one."""
    at = whole.begin
    for begin, end in sorted(taken):
        if at < begin < whole.end:
            yield Range(at, begin)
        if begin < whole.end:
            at = max(at, end)
    if at < whole.end:
        yield Range(at, whole.end)


def _populate(ranges: list[Range], ended: threading.Event) -> None:
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for whole in ranges:
        for begin in range(whole.begin, whole.end, STEP_BYTES):
            n_bytes = min(STEP_BYTES, whole.end - begin)
            if ended.is_set() or madvise(begin, n_bytes, POPULATE_WRITE):
                return
