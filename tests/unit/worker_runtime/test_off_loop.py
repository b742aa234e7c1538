"""What may block on a disk holds up neither the event loop nor the end of the process."""

import asyncio
import subprocess
import sys
import threading

import pytest

from common.errors import BackendLoadFailed, NotReady
from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fakes import FakeClock, FakeLauncher, FakeProbe, settle
from worker_runtime.catalog import Catalog, Scan
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.lifecycle.manager import FIRST_SCAN_S, Models
from worker_runtime.off_loop import in_thread
from worker_runtime.policy import LifecyclePolicy


async def test_results_and_errors_come_back() -> None:
    assert await in_thread(threading.current_thread) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)


async def test_a_hung_disk_keeps_a_worker_neither_from_starting_nor_from_ending() -> None:
    clock, hung = FakeClock(), threading.Event()

    def scan() -> Scan:
        hung.wait()
        return Scan([entry("a")], "a")

    catalog = Catalog(scan, ttl_s=1e9, clock=clock)
    models = Models(catalog, LifecyclePolicy(), FakeLauncher(auto=True), clock, FakeProbe())
    entering = asyncio.create_task(models.__aenter__())
    await settle()
    assert not entering.done()
    await clock.tick(FIRST_SCAN_S)
    await entering
    assert models.snapshot() == []
    with pytest.raises(NotReady):
        async with models.lease("a"):
            raise AssertionError
    hung.set()
    await catalog.first_scan()
    async with models.lease("a") as lease:
        assert lease.engine.pid
    await models.__aexit__(None, None, None)


async def test_headers_that_cannot_be_read_in_time_fail_the_load_and_not_the_worker() -> None:
    clock, hung = FakeClock(), threading.Event()

    def load_options(_: object) -> tuple[LoadOption, ...]:
        hung.wait()
        return ()

    catalog = Catalog(lambda: Scan([entry("a")], "a"), ttl_s=1e9, clock=clock)
    policy = LifecyclePolicy(load_timeout_s=60)
    launcher, probe = FakeLauncher(auto=True), FakeProbe()
    models = Models(
        catalog, policy, launcher, clock, probe, load_options=load_options, off_loop=in_thread
    )
    async with models:
        loading = asyncio.create_task(models.load("a"))
        await settle()
        await clock.tick(60)
        with pytest.raises(BackendLoadFailed, match="could not be read"):
            await loading
    hung.set()


PROGRAM = """
import asyncio, threading
from worker_runtime.off_loop import in_thread
async def main():
    hung = asyncio.create_task(in_thread(threading.Event().wait))
    await asyncio.sleep(0)
    hung.cancel()
asyncio.run(main())
"""


def test_a_thread_that_hangs_does_not_keep_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], timeout=60, check=False)
    assert done.returncode == 0
