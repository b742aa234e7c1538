"""How long a model stays: idle time, keep_alive, pins; what it gives back before it goes."""

import pytest

from tests.unit.worker_runtime.fakes import (
    RESIDENT_BYTES,
    settle,
)
from tests.unit.worker_runtime.world import IDLE_S, world
from worker_runtime.snapshot import ModelState

pytestmark = pytest.mark.timeout(30)


async def test_the_idle_clock_starts_when_the_last_lease_ends() -> None:
    async with world() as made:
        async with made.held():
            await made.clock.tick(IDLE_S * 10)
            assert made.state() is ModelState.READY
        await made.clock.tick(IDLE_S - 1)
        assert made.state() is ModelState.READY
        await made.clock.tick(1)
        assert made.state() is ModelState.UNLOADED
        assert made.model().freed_bytes == RESIDENT_BYTES
        assert made.model().counters.unloads == 1


async def test_each_use_starts_the_idle_clock_anew() -> None:
    async with world() as made:
        for _ in range(5):
            await made.use()
            await made.clock.tick(IDLE_S - 1)
        assert len(made.launcher.engines) == 1
        await made.clock.tick(1)
        assert made.state() is ModelState.UNLOADED


async def test_looking_never_wakes_or_refreshes_a_model() -> None:
    async with world() as made:
        made.models.snapshot()
        assert not made.launcher.engines
        await made.use()
        for _ in range(int(IDLE_S)):
            made.models.snapshot()
            await made.clock.tick(1)
        assert made.state() is ModelState.UNLOADED


@pytest.mark.parametrize(
    ("keep_alive_s", "after_s", "state"),
    [
        (0, 0, ModelState.UNLOADED),
        (5, 4, ModelState.READY),
        (5, 5, ModelState.UNLOADED),
        (-1, 5_000.0, ModelState.READY),
        (IDLE_S * 3, IDLE_S * 2, ModelState.READY),
    ],
)
async def test_a_request_says_how_long_its_model_stays(
    keep_alive_s: float, after_s: float, state: ModelState
) -> None:
    async with world() as made:
        await made.use(keep_alive_s=keep_alive_s)
        await settle()
        await made.clock.tick(after_s)
        assert made.state() is state


async def test_a_shorter_keep_alive_than_the_running_one_counts() -> None:
    async with world() as made:
        await made.use()
        await settle()
        await made.use(keep_alive_s=1)
        await made.clock.tick(1)
        assert made.state() is ModelState.UNLOADED


async def test_a_pin_outlives_requests_that_name_no_time_and_ends_with_one_that_does() -> None:
    async with world() as made:
        await made.use(keep_alive_s=-1)
        await made.use()
        await made.clock.tick(IDLE_S * 10)
        assert (made.model().pinned, made.model().expires_in_s) == (True, None)
        await made.use(keep_alive_s=5)
        assert (made.model().pinned, made.model().expires_in_s) == (False, 5)
        await made.clock.tick(5)
        assert made.state() is ModelState.UNLOADED
        assert not made.model().pinned
