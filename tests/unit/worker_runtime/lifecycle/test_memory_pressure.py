"""Who makes room for whom, and who is refused."""

import msgspec
import pytest

from common.errors import BackendLoadFailed, Overloaded
from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fakes import (
    settle,
)
from tests.unit.worker_runtime.world import waiter, world
from worker_runtime.catalog import Capability
from worker_runtime.lifecycle.snapshot import ModelState
from worker_runtime.memory.pressure import Stall

pytestmark = pytest.mark.timeout(30)


async def test_a_pinned_model_is_not_evicted_and_the_refusal_names_it() -> None:
    async with world(max_loaded=1) as made:
        await made.use("a", keep_alive_s=-1)
        with pytest.raises(BackendLoadFailed, match=r"pinned models.*\(a\)") as caught:
            await made.use("b")
        assert caught.value.suggestions[0] == "unload a: POST /v1/models/unload"
        assert caught.value.metadata["reason"] == "held_by_pins"
        await made.models.unload("a")
        await made.clock.tick(10)
        assert await made.use("b")


async def test_who_waits_for_a_model_in_use_is_told_when_that_is_pinned() -> None:
    async with world(max_loaded=1) as made:
        async with made.held("a"):
            other = await waiter(made, "b")
            await made.use("a", keep_alive_s=-1)
        with pytest.raises(BackendLoadFailed, match="pinned"):
            await other


async def test_the_least_recently_used_idle_model_goes_when_there_are_too_many() -> None:
    async with world(max_loaded=2) as made:
        await made.use("a")
        await made.clock.tick(1)
        await made.use("b")
        await made.clock.tick(1)
        await made.use("a")
        await made.use("c")
        states = [made.state(model) for model in "abc"]
        assert states == [ModelState.READY, ModelState.UNLOADED, ModelState.READY]


async def test_a_model_in_use_is_never_evicted_and_the_other_waits_for_it() -> None:
    async with world(max_loaded=1) as made:
        async with made.held("a"):
            other = await waiter(made, "b")
            assert made.state("b") is ModelState.QUEUED
            assert made.state("a") is ModelState.READY
        await other
        assert made.state("a") is ModelState.UNLOADED


async def test_a_loading_model_counts_and_is_not_evicted() -> None:
    async with world(auto=False, max_loaded=1) as made:
        first = await waiter(made, "a")
        second = await waiter(made, "b")
        assert len(made.launcher.engines) == 1
        made.launcher.latest.finish_load()
        await first
        await settle()
        assert made.launcher.latest.entry.id == "b"
        made.launcher.latest.finish_load()
        await second


async def test_eviction_frees_the_bytes_that_are_needed_before_the_load() -> None:
    sizes = [entry("a", size_bytes=40), entry("b", size_bytes=50), entry("c", size_bytes=70)]
    async with world(entries=sizes, memory_limit_bytes=100) as made:
        await made.use("a")
        await made.clock.tick(1)
        await made.use("b")
        await made.use("c")
        assert [engine.entry.id for engine in made.launcher.alive] == ["c"]


async def test_a_model_over_the_whole_budget_is_refused_with_the_arithmetic() -> None:
    async with world(entries=[entry("a", size_bytes=2 << 30)], memory_limit_bytes=1 << 30) as made:
        with pytest.raises(BackendLoadFailed, match=r"2,048 MiB.*1,024 MiB"):
            await made.use()


@pytest.mark.parametrize(
    ("capability", "limit"),
    [("chat", "MODEL_MEMORY_LIMIT_GB"), ("embed", "EMBEDDING_MEMORY_LIMIT_GB")],
)
async def test_a_refusal_names_the_own_limit_and_smaller_models_that_fit(
    capability: Capability, limit: str
) -> None:
    sizes = {"big": 900, "small": 40, "smaller": 20, "other": 30, "broken": 10}
    entries = [
        msgspec.structs.replace(
            entry(model, size_bytes=size << 20),
            capability="embed" if model == "other" else "chat",
            broken="cut" if model == "broken" else "",
        )
        for model, size in sizes.items()
    ]
    if capability == "embed":
        entries = [msgspec.structs.replace(e, capability="embed") for e in entries[:3]]
    async with world(entries=entries, memory_limit_bytes=800 << 20) as made:
        with pytest.raises(BackendLoadFailed) as caught:
            await made.use("big")
    first, *rest = caught.value.suggestions
    assert first == f"raise {limit}"
    assert rest[-2:] == ["use the model small", "use the model smaller"]


async def test_a_load_that_would_leave_too_little_is_refused_with_the_arithmetic() -> None:
    async with world(entries=[entry("a", size_bytes=2 << 30)], min_remain_bytes=1 << 30) as made:
        made.probe.available_bytes = 2 << 30
        with pytest.raises(BackendLoadFailed, match=r"needs about 2,048 MiB.*1,024 MiB stay free"):
            await made.use()
        made.probe.available_bytes = 4 << 30
        await made.clock.tick(10)
        await made.use()


async def test_waiting_for_memory_ends_with_overloaded() -> None:
    async with world(max_loaded=1, queue_wait_s=30.0) as made, made.held("a"):
        other = await waiter(made, "b")
        await made.clock.tick(30)
        with pytest.raises(Overloaded):
            await other
        assert made.state("b") is ModelState.UNLOADED


async def test_nothing_is_loaded_while_the_machine_waits_for_memory_and_who_asks_is_told() -> None:
    async with world(queue_wait_s=30.0) as made:
        made.probe.stalled = Stall(some=0.5)
        refused = await waiter(made)
        await made.clock.tick(30)
        with pytest.raises(Overloaded, match="wait for memory"):
            await refused
        assert not made.launcher.engines
        served = await waiter(made)
        made.probe.stalled = Stall()
        await made.clock.tick(2)
        assert await served


async def test_idle_models_are_given_back_one_by_one_while_the_machine_stands_still() -> None:
    async with world(idle_timeout_s=None) as made:
        for model in "abc":
            await made.use(model)
            await made.clock.tick(1)
        made.probe.stalled = Stall(some=1.0, full=0.5)
        async with made.held("b"):
            await made.clock.tick(16)
            assert [engine.entry.id for engine in made.launcher.alive] == ["b", "c"]
            await made.clock.tick(30)
            assert [engine.entry.id for engine in made.launcher.alive] == ["b"]
