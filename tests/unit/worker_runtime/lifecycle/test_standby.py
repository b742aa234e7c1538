"""When a process waits for the next model: real processes, time and memory in the test's hands."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

import psutil
import pytest

from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fakes import RESIDENT_BYTES, FakeClock, FakeProbe
from tests.unit.worker_runtime.stub_engine import MODULE
from worker_runtime.catalog import Catalog, Scan
from worker_runtime.engine_process.launcher import ProcessLauncher
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.lifecycle.manager import LifecyclePolicy, Models
from worker_runtime.lifecycle.standby import LOOK_S, STANDBY_BYTES
from worker_runtime.memory.ledger import LedgerPage, NoLedger
from worker_runtime.memory.need import Need
from worker_runtime.memory.pressure import Stall

NEED_BYTES = 1 << 30

pytestmark = pytest.mark.timeout(60)


class Worker:
    """The models of one worker that keeps a process waiting."""

    def __init__(self) -> None:
        self.clock, self.probe, self.ledger = FakeClock(), FakeProbe(), WantingLedger()
        self.launcher = ProcessLauncher(self.probe, standby=(MODULE, "stub"))
        self.models = Models(
            Catalog(lambda: Scan([entry("a")], "a"), ttl_s=1e9, clock=self.clock),
            LifecyclePolicy(min_remain_bytes=0),
            self.launcher,
            self.clock,
            self.probe,
            standby=self.launcher,
            load_options=lambda found: (LoadOption(found, Need(weights=NEED_BYTES)),),
            ledger=self.ledger,
        )

    async def until(self, holds: Callable[[int], bool]) -> int:
        """Let time pass until the number of the waiting process is so; the number."""
        while not holds(self.launcher.standby_pid):
            await self.clock.tick(LOOK_S)
            # A process starts and ends in its own time.
            await asyncio.sleep(0.01)
        return self.launcher.standby_pid


class WantingLedger(NoLedger):
    """Of another worker that lacks memory, where a test says so."""

    wanted_bytes = 0

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[LedgerPage, ...]]:
        yield (LedgerPage("", (), self.wanted_bytes),)


@contextlib.asynccontextmanager
async def worker() -> AsyncIterator[Worker]:
    made = Worker()
    async with made.models:
        keeping = asyncio.create_task(made.models.keep_standby())
        try:
            yield made
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
            assert made.launcher.standby_pid == 0
            await made.models.close(hurry=True)


def is_there(pid: int) -> bool:
    return pid != 0


def is_gone(pid: int) -> bool:
    return pid == 0


async def test_a_process_waits_before_the_first_load_and_again_after_it() -> None:
    async with worker() as made:
        waiting = await made.until(is_there)
        async with made.models.lease("a") as lease:
            assert lease.engine.pid == waiting
            await made.clock.tick(LOOK_S)
            # A start would delay the answer.
            assert made.launcher.standby_pid == 0
        assert await made.until(is_there) != waiting


async def test_the_process_that_waits_ends_with_its_worker() -> None:
    async with worker() as made:
        waiting = psutil.Process(await made.until(is_there))
    assert not waiting.is_running()


async def test_memory_pressure_ends_the_process_and_it_returns_afterwards() -> None:
    async with worker() as made:
        waiting = await made.until(is_there)
        made.probe.stalled = Stall(some=1.0)
        await made.until(is_gone)
        made.probe.stalled = Stall()
        assert await made.until(is_there) != waiting


async def test_another_worker_that_lacks_memory_ends_the_process() -> None:
    async with worker() as made:
        await made.until(is_there)
        made.ledger.wanted_bytes = 1
        await made.until(is_gone)


async def test_no_process_waits_where_memory_is_short() -> None:
    async with worker() as made:
        made.probe.available_bytes = STANDBY_BYTES - 1
        await made.until(is_gone)
        await made.clock.tick(2 * LOOK_S)
        assert made.launcher.standby_pid == 0


async def test_the_memory_of_the_process_that_waits_is_free_for_a_load() -> None:
    async with worker() as made:
        waiting = await made.until(is_there)
        made.probe.available_bytes = NEED_BYTES - RESIDENT_BYTES
        async with made.models.lease("a") as lease:
            assert lease.engine.pid == waiting


async def test_the_memory_of_the_process_that_waits_is_told_as_the_workers_own() -> None:
    async with worker() as made:
        await made.until(is_there)
        assert made.models.memory([]).worker_bytes == 2 * RESIDENT_BYTES
