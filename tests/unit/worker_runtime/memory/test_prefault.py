"""Pages of large buffers are ready before a load writes to them."""

import mmap
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from worker_runtime.memory import prefault
from worker_runtime.memory.prefault import MIN_BYTES, prefaulted
from worker_runtime.memory.probe import process_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such call")


@contextmanager
def buffer(n_bytes: int) -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as made:
        yield made


def resident() -> int:
    return process_memory(os.getpid()).anonymous_bytes


def wait_for_the_thread() -> None:
    until_s = time.monotonic() + 60
    while any(thread.name == "prefault" for thread in threading.enumerate()):
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_new_large_buffers_are_made_resident_and_keep_what_they_hold() -> None:
    with buffer(MIN_BYTES) as old, prefaulted() as begin, buffer(2 * MIN_BYTES) as new:
        new[MIN_BYTES : MIN_BYTES + 4] = b"kept"
        before = resident()
        begin()
        begin()
        wait_for_the_thread()
        grown = resident() - before
        assert 1.9 * MIN_BYTES < grown < 2.5 * MIN_BYTES, "the old buffer is not written to"
        assert new[MIN_BYTES : MIN_BYTES + 4] == b"kept"
        assert new[-1] == 0
        assert old[0] == 0


def test_small_buffers_are_left_alone() -> None:
    with prefaulted() as begin, buffer(MIN_BYTES // 2):
        before = resident()
        begin()
        wait_for_the_thread()
        assert resident() - before < MIN_BYTES // 4


def test_a_load_that_ends_ends_the_thread() -> None:
    with prefaulted() as begin, buffer(8 * MIN_BYTES):
        begin()
    assert all(thread.name != "prefault" for thread in threading.enumerate())


def test_a_kernel_that_does_not_offer_it_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefault, "POPULATE_WRITE", 9999)
    with prefaulted() as begin, buffer(MIN_BYTES) as new:
        before = resident()
        begin()
        wait_for_the_thread()
        assert resident() - before < MIN_BYTES // 4
        assert new[0] == 0
