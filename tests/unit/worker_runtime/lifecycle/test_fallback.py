"""Down the ladder: what happens after one way to load a model has failed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from common.errors import BackendLoadFailed, ServingError
from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fakes import FakeClock, FakeEngine, FakeLauncher, FakeProbe, settle
from worker_runtime.catalog import Catalog, Scan
from worker_runtime.engine_process import protocol
from worker_runtime.engine_process.load_errors import out_of_memory
from worker_runtime.lifecycle.load_options import WITHOUT_EXTRA_BUFFERS, LoadOption
from worker_runtime.lifecycle.manager import LifecyclePolicy, Models, WaitStatus
from worker_runtime.lifecycle.snapshot import ModelSnapshot, ModelState
from worker_runtime.machine.kernel_memory import NoKernels
from worker_runtime.memory.need import Need

LIMIT_S = 100.0
WANTED = entry("wanted")
SHORTER = LoadOption(WANTED, Need(weights=50), ("context of 1,024 tokens instead of 2,048",))
INSTEAD = LoadOption(entry("small"), Need(weights=20), ("served by small, a smaller file",))
PLAIN = protocol.raw("plain")
CAREFUL = LoadOption(WANTED, Need(weights=100), plain_spec=PLAIN)
LADDER = [LoadOption(WANTED, Need(weights=100)), SHORTER, INSTEAD]

pytestmark = pytest.mark.timeout(30)


class Kernels(NoKernels):
    """Notes what it is told, each with the reductions of its rung."""

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[str, ...]]] = []

    def broke_down(self, option: LoadOption, how: str) -> None:
        self.told.append(("broke down", option.reductions))

    def loaded(self, option: LoadOption) -> None:
        self.told.append(("loaded", option.reductions))


class World:
    def __init__(self, options: list[LoadOption]) -> None:
        self.options = options
        self.clock = FakeClock()
        self.launcher = FakeLauncher(auto=False)
        self.kernels = Kernels()
        self.notices: list[WaitStatus] = []
        catalog = Catalog(lambda: Scan([WANTED], WANTED.id), ttl_s=1e9, clock=self.clock)
        policy = LifecyclePolicy(load_timeout_s=LIMIT_S, idle_timeout_s=60)
        self.models = Models(
            catalog,
            policy,
            self.launcher,
            self.clock,
            FakeProbe(),
            load_options=lambda entry: self.options,
            kernels=self.kernels,
        )
        self._tasks = asyncio.TaskGroup()

    def model(self) -> ModelSnapshot:
        return self.models.snapshot()[0]

    async def use(self) -> tuple[str, tuple[str, ...]]:
        async with self.models.lease("", on_wait=self.notices.append) as lease:
            return lease.entry.id, lease.reductions

    async def break_down(self) -> None:
        async with self.models.lease(""):
            self.launcher.latest.die("SIGSEGV")

    async def begin(self) -> asyncio.Task[tuple[str, tuple[str, ...]]]:
        task = asyncio.create_task(self.use())
        await settle()
        return task

    async def fail(self, error: ServingError) -> FakeEngine:
        """The load under way fails; returns the engine that failed."""
        engine = self.launcher.latest
        engine.fail_load(error)
        await settle()
        return engine

    @property
    def n_loads(self) -> int:
        return len(self.launcher.engines)


@contextlib.asynccontextmanager
async def world(options: list[LoadOption] | None = None) -> AsyncIterator[World]:
    made = World(options or LADDER)
    async with made.models:
        yield made
        await made.models.close(hurry=True)
    assert not made.launcher.alive
    assert made.models.n_booked == 0


async def test_a_load_that_fails_for_memory_goes_on_smaller_and_the_waiters_with_it() -> None:
    async with world() as made:
        waiting = [await made.begin() for _ in range(3)]
        failed = await made.fail(out_of_memory(""))
        assert failed.exit is not None
        assert not any(task.done() for task in waiting)
        made.launcher.latest.finish_load()
        assert await asyncio.gather(*waiting) == [("wanted", SHORTER.reductions)] * 3
        assert (made.n_loads, made.model().counters.loads) == (2, 1)
        assert made.model().counters.load_failures == 0


async def test_waiters_hear_what_is_loaded_smaller() -> None:
    async with world() as made:
        waiting = await made.begin()
        await made.fail(out_of_memory(""))
        assert "loading reduced: context of 1,024" in made.notices[-1].load_stage
        made.launcher.latest.on_progress(0.5, "weights")
        assert made.notices[-1].load_stage.startswith("weights, loading reduced: ")
        made.launcher.latest.finish_load()
        await waiting


async def test_another_model_in_its_place_is_named_everywhere() -> None:
    async with world() as made:
        waiting = await made.begin()
        await made.fail(out_of_memory(""))
        await made.fail(out_of_memory(""))
        made.launcher.latest.finish_load()
        assert await waiting == ("small", INSTEAD.reductions)
        assert made.launcher.latest.entry.id == "small"
        assert made.model().entry.id == "wanted"
        assert (made.model().served_by, made.model().reductions) == ("small", INSTEAD.reductions)


async def test_each_way_is_tried_once_and_then_the_lack_of_memory_is_told() -> None:
    async with world() as made:
        waiting = await made.begin()
        for _ in LADDER:
            await made.fail(out_of_memory(""))
        with pytest.raises(BackendLoadFailed, match="not enough memory") as caught:
            await waiting
        assert made.n_loads == len(LADDER)
        assert made.model().state is ModelState.FAILED
        assert caught.value.metadata["needed_bytes"] == "20"
        assert caught.value.metadata["available_bytes"] == str(8 << 30)


async def test_ways_that_take_no_less_than_the_failed_one_are_passed_over() -> None:
    as_large = msgspec.structs.replace(SHORTER, need=LADDER[0].need)
    async with world([LADDER[0], as_large, INSTEAD]) as made:
        waiting = await made.begin()
        await made.fail(out_of_memory(""))
        made.launcher.latest.finish_load()
        assert (await waiting)[0] == "small"


async def test_other_failures_are_not_answered_with_a_smaller_load() -> None:
    async with world() as made:
        waiting = await made.begin()
        await made.fail(BackendLoadFailed("bad layer"))
        with pytest.raises(BackendLoadFailed, match="bad layer"):
            await waiting
        assert made.n_loads == 1


async def test_what_cannot_be_loaded_from_one_file_may_be_from_another() -> None:
    other = msgspec.structs.replace(INSTEAD.entry, path=Path("small.gguf"), backend="llama.cpp")
    gguf = LoadOption(other, Need(weights=200), INSTEAD.reductions)
    async with world([*LADDER, gguf]) as made:
        waiting = await made.begin()
        await made.fail(BackendLoadFailed("the library is missing"))
        assert made.launcher.latest.entry.backend == "llama.cpp"
        made.launcher.latest.finish_load()
        assert (await waiting)[0] == "small"


async def test_what_cannot_be_loaded_by_one_library_may_be_by_another() -> None:
    other = LoadOption(msgspec.structs.replace(WANTED, backend="another"), Need(weights=200))
    async with world([LoadOption(WANTED, Need(weights=100)), other]) as made:
        waiting = await made.begin()
        await made.fail(BackendLoadFailed("an unknown layer"))
        assert made.launcher.latest.entry.backend == "another"
        made.launcher.latest.finish_load()
        await waiting


async def test_what_a_conversion_takes_is_booked_until_the_model_is_loaded() -> None:
    async with world([LoadOption(WANTED, Need(weights=100, converting=900))]) as made:
        waiting = await made.begin()
        (before,) = made.models.snapshot()
        made.launcher.latest.finish_load()
        await waiting
        (after,) = made.models.snapshot()
        assert (before.booked_bytes, after.booked_bytes) == (1000, 100)


async def test_native_code_that_breaks_down_is_tried_once_more_without_extra_buffers() -> None:
    async with world([CAREFUL, SHORTER]) as made:
        waiting = await made.begin()
        made.launcher.latest.die("SIGSEGV")
        await settle()
        assert "loading reduced: without llama.cpp's extra" in made.notices[-1].load_stage
        assert bytes(made.launcher.latest.entry.load_spec) == bytes(PLAIN)
        made.launcher.latest.finish_load()
        assert await waiting == ("wanted", (WITHOUT_EXTRA_BUFFERS,))
        told = made.kernels.told
        assert told == [("broke down", ()), ("loaded", (WITHOUT_EXTRA_BUFFERS,))]


async def test_what_breaks_down_without_extra_buffers_too_is_not_tried_again() -> None:
    async with world([CAREFUL]) as made:
        waiting = await made.begin()
        for _ in range(2):
            made.launcher.latest.die("SIGILL")
            await settle()
        with pytest.raises(BackendLoadFailed, match="SIGILL"):
            await waiting
        assert made.n_loads == 2


async def test_a_killed_process_is_no_fault_of_its_code() -> None:
    async with world([CAREFUL]) as made:
        waiting = await made.begin()
        made.launcher.latest.die("SIGTERM")
        await settle()
        with pytest.raises(BackendLoadFailed, match="SIGTERM"):
            await waiting
        assert made.n_loads == 1


async def test_less_memory_is_tried_with_extra_buffers() -> None:
    smaller = msgspec.structs.replace(CAREFUL, need=Need(weights=50), reductions=("smaller",))
    async with world([CAREFUL, smaller]) as made:
        waiting = await made.begin()
        await made.fail(out_of_memory(""))
        made.launcher.latest.die("SIGSEGV")
        await settle()
        made.launcher.latest.finish_load()
        assert await waiting == ("wanted", ("smaller", WITHOUT_EXTRA_BUFFERS))


async def test_a_fault_before_the_first_answer_speaks_against_extra_buffers() -> None:
    async with world([CAREFUL]) as made:
        breaking = asyncio.create_task(made.break_down())
        await settle()
        made.launcher.latest.finish_load()
        await breaking
        await settle()
        assert made.kernels.told == [("loaded", ()), ("broke down", ())]


async def test_a_fault_after_an_answer_does_not() -> None:
    async with world([CAREFUL]) as made:
        waiting = await made.begin()
        made.launcher.latest.finish_load()
        await waiting
        await made.break_down()
        await settle()
        assert made.kernels.told == [("loaded", ())]


async def test_a_full_page_file_gets_two_seconds_to_grow_and_one_more_try() -> None:
    async with world() as made:
        waiting = await made.begin()
        failed = await made.fail(out_of_memory("", "page_file"))
        assert failed.exit is not None
        assert made.n_loads == 1
        assert made.models.n_booked == 0
        await made.clock.tick(2)
        assert made.n_loads == 2
        await made.fail(out_of_memory("", "page_file"))
        assert made.n_loads == 3
        made.launcher.latest.finish_load()
        assert await waiting == ("wanted", SHORTER.reductions)


async def test_nobody_waits_any_more_while_the_page_file_grows() -> None:
    async with world() as made:
        waiting = await made.begin()
        await made.fail(out_of_memory("", "page_file"))
        waiting.cancel()
        await settle()
        assert made.model().state is ModelState.UNLOADED
        assert made.n_loads == 1


async def test_all_ways_share_one_time_limit() -> None:
    async with world() as made:
        waiting = await made.begin()
        await made.clock.tick(LIMIT_S - 1)
        await made.fail(out_of_memory(""))
        await made.clock.tick(1)
        with pytest.raises(BackendLoadFailed, match="longer than 100 s"):
            await waiting
        assert made.n_loads == 2
        assert made.model().counters.load_failures == 1


async def test_the_next_load_begins_at_the_top_again() -> None:
    async with world() as made:
        waiting = await made.begin()
        await made.fail(out_of_memory(""))
        made.launcher.latest.finish_load()
        await waiting
        await settle()
        await made.clock.tick(60)
        assert made.model().reductions == ()
        again = await made.begin()
        made.launcher.latest.finish_load()
        assert await again == ("wanted", ())
