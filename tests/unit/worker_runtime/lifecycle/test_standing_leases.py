"""Leases for many calls: they count what is served, change nothing else, and end when asked."""

import asyncio

import pytest

from common.errors import NotReady
from tests.unit.worker_runtime.fakes import settle
from tests.unit.worker_runtime.world import IDLE_S, world
from worker_runtime.lifecycle.snapshot import ModelState

pytestmark = pytest.mark.timeout(30)


async def test_a_model_that_is_not_loaded_is_not_loaded_for_one() -> None:
    async with world() as made:
        with pytest.raises(NotReady), made.models.standing_lease("a"):
            raise AssertionError("there is none")
        assert not made.launcher.engines


async def test_a_model_under_one_is_in_use_and_counts_what_is_served() -> None:
    async with world() as made:
        await made.use()
        with made.models.standing_lease("a") as lease:
            lease.count_calls(5)
            await made.clock.tick(IDLE_S * 2)
            assert made.state() is ModelState.READY
        assert made.model().counters.requests == 6
        await made.clock.tick(IDLE_S)
        assert made.state() is ModelState.UNLOADED


async def test_its_end_keeps_what_requests_said_of_the_models_stay() -> None:
    async with world() as made:
        await made.use()
        with made.models.standing_lease("a"):
            await made.use(keep_alive_s=5)
        await made.clock.tick(5)
        assert made.state() is ModelState.UNLOADED


async def test_it_is_told_when_the_model_is_to_be_unloaded() -> None:
    async with world() as made:
        await made.use()
        with made.models.standing_lease("a") as lease:
            assert not lease.ending.is_set()
            unloading = asyncio.create_task(made.models.unload("a"))
            await lease.ending.wait()
            assert made.state() is not ModelState.UNLOADED
            with pytest.raises(NotReady), made.models.standing_lease("a"):
                raise AssertionError("there is none")
        await unloading
        await settle()
        assert made.state() is ModelState.UNLOADED
