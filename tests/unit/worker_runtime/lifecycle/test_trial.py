"""A load that is only tried takes nothing from models that serve, and ends when it is unwanted."""

import asyncio

import pytest

from common.errors import BackendLoadFailed
from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fakes import FakeEngine, settle
from tests.unit.worker_runtime.world import World, waiter, world
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.lifecycle.trial import LOOK_S, Tried
from worker_runtime.memory.need import Need

pytestmark = pytest.mark.timeout(30)

SIZES = [entry("a", size_bytes=40), entry("b", size_bytes=40)]
OPTION = LoadOption(entry("tried", size_bytes=40), Need(weights=40))


async def trying(made: World) -> tuple[asyncio.Task[Tried | None], FakeEngine]:
    """A trial whose load does not end by itself."""
    made.launcher.auto = False
    task = asyncio.create_task(made.models.try_load(OPTION))
    await settle()
    made.launcher.auto = True
    return task, made.launcher.latest


async def test_a_trial_reports_what_was_loaded_and_its_process_has_ended() -> None:
    async with world(entries=SIZES, memory_limit_bytes=100) as made:
        await made.use("a")
        tried = await made.models.try_load(OPTION)
        assert tried is not None
        assert b"tried" in bytes(tried.facts)
        assert tried.memory_bytes > 0
        assert [engine.entry.id for engine in made.launcher.alive] == ["a"]
        assert made.models.n_booked == 1


async def test_no_model_is_evicted_for_a_trial() -> None:
    async with world(entries=SIZES, memory_limit_bytes=70) as made:
        await made.use("a")
        assert await made.models.try_load(OPTION) is None
        assert [engine.entry.id for engine in made.launcher.engines] == ["a"]


async def test_a_trial_is_evicted_before_a_model_that_others_may_want_again() -> None:
    async with world(entries=SIZES, memory_limit_bytes=100) as made:
        await made.use("a")
        task, engine = await trying(made)
        loading = await waiter(made, "b")
        await made.clock.tick(LOOK_S)
        assert await task is None
        assert engine.exit is not None
        await loading
        assert {e.entry.id for e in made.launcher.alive} == {"a", "b"}


async def test_a_request_ends_a_trial_although_there_is_memory_for_both() -> None:
    async with world(entries=SIZES) as made:
        await made.use("a")
        task, engine = await trying(made)
        async with made.held("a"):
            await made.clock.tick(LOOK_S)
            assert await task is None
        assert engine.exit is not None
        assert made.models.n_booked == 1


async def test_why_it_could_not_be_loaded_is_raised_and_its_memory_is_free_again() -> None:
    async with world(entries=SIZES) as made:
        task, engine = await trying(made)
        engine.fail_load(BackendLoadFailed("it does not run"))
        with pytest.raises(BackendLoadFailed, match="it does not run"):
            await task
        assert made.models.n_booked == 0
