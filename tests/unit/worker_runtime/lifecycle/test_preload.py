"""Which models are loaded before anyone asks, and for how long."""

import pytest

from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fakes import FakeClock, FakeLauncher, FakeProbe
from worker_runtime.catalog import Catalog, Scan
from worker_runtime.lifecycle.manager import LifecyclePolicy, Models
from worker_runtime.lifecycle.preload import load_early, wanted
from worker_runtime.lifecycle.snapshot import ModelState
from worker_runtime.settings import RuntimeSettings


def models_of(*ids: str) -> Models:
    clock = FakeClock()
    catalog = Catalog(lambda: Scan([entry(i) for i in ids], ids[0]), ttl_s=300, clock=clock)
    return Models(catalog, LifecyclePolicy(), FakeLauncher(auto=True), clock, FakeProbe())


async def test_each_worker_loads_the_named_models_that_it_has_and_pins_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRELOAD_MODELS", "b, elsewhere,")
    monkeypatch.setenv("PINNED_MODELS", "C")
    async with models_of("a", "b", "c") as models:
        await load_early(models, RuntimeSettings(), default=False)
        states = {s.entry.id: (s.state, s.pinned) for s in models.snapshot()}
    ready, unloaded = ModelState.READY, ModelState.UNLOADED
    assert states == {"a": (unloaded, False), "b": (ready, False), "c": (ready, True)}


async def test_a_pinned_model_that_is_also_preloaded_is_loaded_once() -> None:
    settings = RuntimeSettings(preload_models=("a",), pinned_models=("a",))
    async with models_of("a") as models:
        assert list(wanted(models, settings, default=True)) == [("a", -1), ("", None)]


async def test_a_preload_that_fails_does_not_end_the_worker() -> None:
    settings = RuntimeSettings(preload_models=("a",))
    clock, launcher = FakeClock(), FakeLauncher(auto=True)
    catalog = Catalog(lambda: Scan([entry("a", size_bytes=10)], "a"), ttl_s=300, clock=clock)
    policy = LifecyclePolicy(memory_limit_bytes=1)
    async with Models(catalog, policy, launcher, clock, FakeProbe()) as models:
        await load_early(models, settings, default=False)
        assert models.snapshot()[0].counters.load_failures == 1
