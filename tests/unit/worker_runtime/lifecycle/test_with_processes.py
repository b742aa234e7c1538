"""The lifecycle with real processes, time and memory: what leaves with a process is really gone."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator

import psutil
import pytest

from common.errors import BackendLoadFailed, WorkerLost
from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.stub_engine import StubCall, StubSpec
from worker_runtime.catalog import Catalog, Scan
from worker_runtime.clock import SystemClock
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.lifecycle.manager import Models
from worker_runtime.lifecycle.snapshot import ModelState
from worker_runtime.memory.need import Need
from worker_runtime.rpc.server import local_models
from worker_runtime.settings import RuntimeSettings

BOUND_S = 30
MIB = 1 << 20

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(sys.platform == "win32", reason="ends processes by signals"),
]


@contextlib.asynccontextmanager
async def models_of(spec: StubSpec, *smaller: StubSpec) -> AsyncIterator[Models]:
    """
    Args:
        smaller: what is loaded where there is too little memory for `spec`.
    """
    catalog = Catalog(lambda: Scan([entry(spec=spec)], "stub"), ttl_s=300, clock=SystemClock())
    settings = RuntimeSettings()
    options = [
        LoadOption(
            entry(spec=s), Need(weights=1000 - number), (f"rung {number}",) if number else ()
        )
        for number, s in enumerate((spec, *smaller))
    ]
    async with (
        asyncio.timeout(BOUND_S),
        local_models(settings, catalog, lambda _: options) as models,
    ):
        yield models


async def test_a_killed_engine_fails_its_calls_and_the_next_lease_is_served() -> None:
    async with models_of(StubSpec()) as models:
        async with models.lease("") as lease:
            calls = [lease.engine.call(StubCall(never_end=True)) for _ in range(3)]
            for call in calls:
                await anext(call)
            os.kill(lease.engine.pid, signal.SIGKILL)
            for call in calls:
                with pytest.raises(WorkerLost, match="SIGKILL"):
                    await anext(call)
        async with models.lease("") as lease:
            assert await lease.engine.unary(StubCall())
        assert models.snapshot()[0].counters.crashes == 1


async def test_an_unload_gives_the_memory_back_and_reports_it() -> None:
    async with models_of(StubSpec(allocate_mib=150)) as models:
        await models.load("")
        snapshot = models.snapshot()[0]
        assert snapshot.memory.resident_bytes > 150 * MIB
        freed = await models.unload("")
        assert freed.resident_bytes > 150 * MIB
        assert not psutil.pid_exists(snapshot.pid)
        assert models.snapshot()[0].freed_bytes == freed.resident_bytes


async def test_a_process_killed_half_way_through_its_load_is_explained() -> None:
    async with models_of(StubSpec(steps=4, die_at_step=2)) as models:
        with pytest.raises(BackendLoadFailed, match="not enough memory") as caught:
            await models.load("")
        assert caught.value.suggestions
        assert models.snapshot()[0].state is ModelState.FAILED


async def test_a_crash_during_the_load_names_its_signal() -> None:
    async with models_of(StubSpec(die_at_step=0, die_by=signal.SIGABRT)) as models:
        with pytest.raises(BackendLoadFailed, match="SIGABRT"):
            await models.load("")


async def test_an_allocation_that_fails_in_native_code_is_told_by_its_last_words() -> None:
    spec = StubSpec(print_noise=True, die_at_step=0, die_by=signal.SIGABRT)
    async with models_of(spec) as models:
        with pytest.raises(BackendLoadFailed, match="not enough memory"):
            await models.load("")


async def test_a_load_that_nobody_waits_for_ends_its_process() -> None:
    async with models_of(StubSpec(hang=True)) as models:
        me = psutil.Process()
        # Other tests' stacks may be this process's children too.
        before = set(me.children())
        reached = asyncio.Event()
        loading = asyncio.create_task(
            models.load("", lambda fraction, stage: reached.set() if stage == "step 0" else None)
        )
        await reached.wait()
        engines = [child for child in me.children() if child not in before]
        assert len(engines) == 1
        loading.cancel()
        await asyncio.wait({loading})
        await asyncio.to_thread(psutil.wait_procs, engines, BOUND_S)
        assert not [child for child in me.children() if child in engines]


@pytest.mark.parametrize(
    "lacking",
    [
        pytest.param(StubSpec(allocate_mib=500, most_mib=300), id="past the process's limit"),
        pytest.param(StubSpec(raises="MemoryError"), id="MemoryError"),
        pytest.param(StubSpec(raises="RuntimeError", text="CUDA out of memory."), id="GPU"),
        pytest.param(StubSpec(raises="OSError", text="分頁檔太小"), id="page file"),
        pytest.param(StubSpec(die_at_step=0), id="killed"),
        pytest.param(
            StubSpec(print_noise=True, die_at_step=0, die_by=signal.SIGABRT), id="aborted"
        ),
    ],
)
async def test_where_memory_runs_out_a_smaller_way_is_loaded(lacking: StubSpec) -> None:
    async with models_of(lacking, StubSpec()) as models:
        async with models.lease("") as lease:
            assert lease.reductions == ("rung 1",)
            assert await lease.engine.unary(StubCall())
        assert models.snapshot()[0].reductions == ("rung 1",)
        assert models.snapshot()[0].counters.load_failures == 0


async def test_where_no_way_fits_the_failure_names_the_lack_of_memory() -> None:
    lacking = StubSpec(allocate_mib=500, most_mib=300)
    async with models_of(lacking, lacking) as models:
        with pytest.raises(BackendLoadFailed, match="not enough memory") as caught:
            await models.load("")
        assert caught.value.suggestions
        assert caught.value.metadata["cause"] == "memory"
        assert {"needed_bytes", "available_bytes"} <= set(caught.value.metadata)
