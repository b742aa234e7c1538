"""Models keep past work where memory is free, and give it up before any model has to go."""

import asyncio

import pytest

from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fakes import FakeEngine
from tests.unit.worker_runtime.world import World, waiter, world
from worker_runtime.memory.pressure import Stall

pytestmark = pytest.mark.timeout(30)

SIZES = [entry("a", size_bytes=40), entry("b", size_bytes=40), entry("c", size_bytes=20)]


def caches(made: World) -> dict[str, int]:
    """What each loaded model may keep, as its engine knows it."""
    return {engine.entry.id: engine.caches_bytes for engine in made.launcher.alive}


def booked(made: World) -> int:
    return sum(snapshot.booked_bytes for snapshot in made.models.snapshot())


async def test_a_model_gets_memory_for_its_caches_and_that_is_booked_and_shown() -> None:
    async with world(entries=SIZES, spare_bytes=30, memory_limit_bytes=1000) as made:
        await made.use("a")
        assert caches(made) == {"a": 30}
        assert made.model("a").booked_bytes == 70
        need = made.model("a").need
        assert need is not None
        assert (need.caches, need.total) == (30, 70)


async def test_half_of_what_is_free_stays_free_for_other_models() -> None:
    async with world(entries=SIZES, spare_bytes=50, memory_limit_bytes=100) as made:
        await made.use("a")
        assert caches(made) == {"a": 30}


async def test_caches_shrink_before_a_model_is_evicted() -> None:
    async with world(entries=SIZES, spare_bytes=30, memory_limit_bytes=100) as made:
        await made.use("a")
        await made.use("b")
        assert caches(made) == {"a": 0, "b": 10}
        await made.use("c")
        assert caches(made) == {"a": 0, "b": 0, "c": 0}
        assert booked(made) == 100


async def test_caches_of_models_in_use_and_of_pinned_ones_shrink_too() -> None:
    async with world(entries=SIZES, spare_bytes=30, memory_limit_bytes=85) as made:
        await made.use("a", keep_alive_s=-1)
        assert caches(made) == {"a": 22}
        async with made.held("a"):
            await made.use("b")
        assert caches(made) == {"a": 0, "b": 2}


async def test_models_go_only_when_what_caches_held_does_not_come_back() -> None:
    async with world(entries=SIZES, spare_bytes=3 << 30, min_remain_bytes=0) as made:
        made.probe.available_bytes = 5 << 30
        await made.use("a")
        assert caches(made)["a"] > 2 << 30
        made.probe.available_bytes = 10
        other = await waiter(made, "b")
        assert caches(made) == {"a": 0}
        await made.clock.tick(2)
        assert not other.done()
        made.probe.available_bytes = 1 << 30
        await made.clock.tick(1)
        assert await other
        assert set(caches(made)) == {"a", "b"}


async def test_free_memory_goes_to_caches_again() -> None:
    async with world(
        entries=SIZES, spare_bytes=30, memory_limit_bytes=120, idle_timeout_s=None
    ) as made:
        await made.use("a")
        await made.use("b")
        assert caches(made) == {"a": 30, "b": 5}
        await made.models.unload("a")
        await made.clock.tick(4)
        assert caches(made) == {"b": 30}
        assert made.model("b").booked_bytes == 70


async def test_caches_are_given_back_while_the_machine_stands_still_and_models_later() -> None:
    async with world(entries=SIZES, spare_bytes=30, idle_timeout_s=None) as made:
        for model in "ab":
            await made.use(model)
            await made.clock.tick(1)
        made.probe.stalled = Stall(some=1.0, full=0.5)
        async with made.held("a"), made.held("b"):
            await made.clock.tick(14)
            assert caches(made) == {"a": 0, "b": 30}
            await made.clock.tick(6)
            assert caches(made) == {"a": 0, "b": 0}
            made.probe.stalled = Stall()
            await made.clock.tick(12)
            assert caches(made) == {"a": 30, "b": 30}


async def test_what_is_taken_back_during_a_load_is_not_granted_after_it() -> None:
    async with world(entries=SIZES, spare_bytes=30, memory_limit_bytes=100, auto=False) as made:
        first = await waiter(made, "a")
        second = await waiter(made, "b")
        engines: list[FakeEngine] = list(made.launcher.alive)
        for engine in engines:
            engine.finish_load()
        await asyncio.gather(first, second)
        assert caches(made) == {"a": 0, "b": 10}
        assert booked(made) == 90
