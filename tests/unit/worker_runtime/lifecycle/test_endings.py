"""Models go: unload, drain, files that change, the worker's end."""

import asyncio

import pytest

from common.errors import BackendLoadFailed, ModelNotFound, NotReady
from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fakes import (
    RESIDENT_BYTES,
    settle,
)
from tests.unit.worker_runtime.world import waiter, world
from worker_runtime.lifecycle.snapshot import ModelState
from worker_runtime.lifecycle.unload import Freed

pytestmark = pytest.mark.timeout(30)


async def test_unload_waits_for_leases_and_reports_what_it_freed() -> None:
    async with world() as made:
        async with made.held():
            unloading = asyncio.create_task(made.models.unload("a"))
            await settle()
            assert made.state() is ModelState.DRAINING
            late = await waiter(made)
            assert not late.done()
        assert (await unloading).resident_bytes == RESIDENT_BYTES
        assert await late == 2


async def test_an_unload_tells_how_much_more_the_machine_has_now() -> None:
    async with world() as made:
        await made.use()
        made.launcher.latest.ignores_stop = True
        unloading = asyncio.create_task(made.models.unload("a"))
        await settle()
        made.probe.available_bytes += 7
        made.launcher.latest.kill()
        assert await unloading == Freed(RESIDENT_BYTES, 7)


async def test_unload_of_an_unloaded_model_frees_nothing() -> None:
    async with world() as made:
        assert (await made.models.unload("a")).resident_bytes == 0
        await made.use()
        assert (await made.models.unload("a")).resident_bytes == RESIDENT_BYTES
        assert (await made.models.unload("a")).resident_bytes == 0


async def test_an_unload_never_ends_what_others_have_begun() -> None:
    async with world(drain_s=25.0) as made:
        async with made.held(), made.held():
            unloading = asyncio.create_task(made.models.unload("a"))
            await settle()
            await made.clock.tick(3600)
            assert made.launcher.alive
            assert not unloading.done()
        freed = await unloading
        assert (freed.resident_bytes, freed.n_running) == (RESIDENT_BYTES, 2)


@pytest.mark.parametrize("somebody_waits", [False, True])
async def test_a_forced_unload_ends_what_runs(somebody_waits: bool) -> None:
    async with world(drain_s=25.0) as made:
        async with made.held():
            if somebody_waits:
                waiting = asyncio.create_task(made.models.unload("a"))
                await settle()
            freed = await made.models.unload("a", force=True)
            assert (freed.resident_bytes, freed.n_running) == (RESIDENT_BYTES, 1)
            assert not made.launcher.alive
            if somebody_waits:
                assert (await waiting).n_running == 1
        assert made.model().n_leases == 0


async def test_a_forced_unload_is_of_that_process_only() -> None:
    async with world(drain_s=25.0) as made:
        await made.use()
        await made.models.unload("a", force=True)
        async with made.held():
            unloading = asyncio.create_task(made.models.unload("a"))
            await settle()
            await made.clock.tick(3600)
            assert made.launcher.alive
        await unloading


@pytest.mark.parametrize("an_unload_waits", [False, True])
async def test_a_worker_that_stops_waits_no_longer_than_its_drain_limit(
    an_unload_waits: bool,
) -> None:
    async with world(drain_s=25.0) as made:
        async with made.held():
            unloading = asyncio.create_task(made.models.unload("a")) if an_unload_waits else None
            await settle()
            closing = asyncio.create_task(made.models.close())
            await settle()
            await made.clock.tick(24)
            assert made.launcher.alive
            await made.clock.tick(1)
            await closing
            assert not made.launcher.alive
        if unloading is not None:
            assert (await unloading).resident_bytes == RESIDENT_BYTES


async def test_a_model_that_changed_on_disk_is_loaded_anew_once_its_leases_end() -> None:
    async with world() as made:
        async with made.held():
            made.entries = [entry("a", fingerprint="fp_new"), entry("b")]
            await made.models.rescan()
            await settle()
            assert made.state() is ModelState.DRAINING
        assert await made.use() == 2
        assert made.launcher.latest.entry.fingerprint == "fp_new"


async def test_a_failed_model_that_was_replaced_is_tried_at_once() -> None:
    async with world(auto=False) as made:
        waiting = await waiter(made)
        made.launcher.latest.fail_load(BackendLoadFailed("no"))
        await asyncio.gather(waiting, return_exceptions=True)
        made.entries = [entry("a", fingerprint="fp_new")]
        await made.models.rescan()
        assert made.state() is ModelState.UNLOADED
        made.launcher.auto = True
        assert await made.use() == 2


async def test_a_model_that_went_from_disk_is_unloaded_and_not_found() -> None:
    async with world() as made:
        await made.use()
        made.entries = [entry("b")]
        await made.models.rescan()
        await settle()
        assert not made.launcher.alive
        with pytest.raises(ModelNotFound):
            await made.use()
        made.entries = [entry("a")]
        await made.models.rescan()
        assert await made.use() == 2


async def test_closing_refuses_waiters_and_newcomers_and_leaves_no_process() -> None:
    async with world(auto=False) as made:
        waiting = await waiter(made)
        await made.models.close()
        with pytest.raises(NotReady):
            await waiting
        with pytest.raises(NotReady):
            await made.use()
        assert not made.launcher.alive


async def test_closing_in_a_hurry_does_not_wait_for_leases() -> None:
    async with world() as made, made.held():
        closing = asyncio.create_task(made.models.close())
        await settle()
        assert made.launcher.alive
        await made.models.close(hurry=True)
        await closing
        assert not made.launcher.alive
