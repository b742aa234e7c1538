"""What models.toml and a load say of one model: pins, priority, another context, force."""

import asyncio

import msgspec
import pytest

from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fakes import settle
from tests.unit.worker_runtime.world import IDLE_S, World, world
from worker_runtime.catalog import ModelEntry
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.lifecycle.preload import load_unasked
from worker_runtime.lifecycle.snapshot import ModelState
from worker_runtime.memory.need import Need
from worker_runtime.model_files.models_toml import ModelOptions
from worker_runtime.settings import RuntimeSettings

pytestmark = pytest.mark.timeout(30)
MIB = 1 << 20


def told(model: str, **options: object) -> ModelEntry:
    return msgspec.structs.replace(
        entry(model),
        options=ModelOptions(**options),  # type: ignore[arg-type]
    )


async def rescan(made: World, *entries: ModelEntry) -> None:
    made.entries = [*entries]
    await made.models.rescan()
    await settle()


async def test_a_model_that_is_pinned_while_the_server_runs_is_loaded_and_stays() -> None:
    async with world(entries=[entry("a")]) as made:
        loading = asyncio.create_task(load_unasked(made.models, RuntimeSettings(), default=False))
        await settle()
        assert made.state() is ModelState.UNLOADED
        await rescan(made, told("a", pinned=True))
        assert made.state() is ModelState.READY
        assert made.model().pinned
        await made.use(keep_alive_s=0)
        await made.clock.tick(IDLE_S * 10)
        assert made.state() is ModelState.READY
        await rescan(made, told("a"))
        await made.clock.tick(IDLE_S)
        assert made.state() is ModelState.UNLOADED
        assert len(made.launcher.engines) == 1
        loading.cancel()


async def test_new_names_are_told_without_a_new_load() -> None:
    async with world(entries=[entry("a")]) as made:
        await made.use()
        await rescan(made, told("a", aliases=("gpt",), temperature=0.1))
        assert made.model().entry.options.aliases == ("gpt",)
        await made.use()
        assert len(made.launcher.engines) == 1


async def test_of_idle_models_the_one_with_the_lowest_priority_goes() -> None:
    entries = [told("a", priority=-1), told("b"), told("c")]
    async with world(entries=entries, max_loaded=2) as made:
        await made.use("b")
        await made.use("a")
        await made.use("c")
        states = {model: made.state(model) for model in ("a", "b", "c")}
    ready = ModelState.READY
    assert states == {"a": ModelState.UNLOADED, "b": ready, "c": ready}


async def test_a_load_may_ask_for_another_context_until_the_model_is_unloaded() -> None:
    async with world(entries=[entry("a")]) as made:
        await made.use()
        await made.models.load("a", n_ctx=512)
        assert made.model().entry.context_length == 512
        await made.models.load("a", n_ctx=512)
        await rescan(made, entry("a"))
        await made.use()
        assert made.model().entry.context_length == 512
        assert len(made.launcher.engines) == 2
        await made.models.unload("a")
        assert made.model().entry.context_length == 128


async def test_a_load_with_another_context_waits_for_requests_unless_it_is_forced() -> None:
    async with world(entries=[entry("a")]) as made, made.held():
        loading = asyncio.create_task(made.models.load("a", n_ctx=512))
        await made.clock.tick(1)
        assert made.state() is ModelState.DRAINING
        assert not loading.done()
        await made.models.load("a", n_ctx=512, force=True)
        assert made.model().entry.context_length == 512
        await loading


async def test_a_forced_load_is_as_configured_also_if_it_seems_not_to_fit() -> None:
    """Idle models leave for it, pinned ones stay."""

    def options(of: ModelEntry) -> list[LoadOption]:
        if of.id != "a":
            return [LoadOption(of, Need(weights=MIB))]
        smaller = LoadOption(of, Need(weights=MIB), ("a smaller context",))
        return [LoadOption(of, Need(weights=100 * MIB)), smaller]

    entries = [entry("a"), entry("b"), told("c", pinned=True)]
    async with world(entries=entries, load_options=options, memory_limit_bytes=3 * MIB) as made:
        for model in ("a", "b", "c"):
            await made.use(model)
        assert made.model().reductions == ("a smaller context",)
        loading = asyncio.create_task(made.models.load("a", force=True))
        await made.clock.tick(1)
        await loading
        assert (made.model().reductions, made.model().booked_bytes) == ((), 100 * MIB)
        assert made.state("b") is ModelState.UNLOADED
        assert made.state("c") is ModelState.READY
        await made.models.load("a", force=True)
        assert made.model().counters.loads == 2
