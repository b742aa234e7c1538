"""How long a model stays: idle time, keep_alive, pins; what it gives back before it goes."""

import pytest

from tests.unit.worker_runtime.fakes import (
    RESIDENT_BYTES,
    settle,
)
from tests.unit.worker_runtime.world import IDLE_S, world
from worker_runtime.lifecycle.snapshot import ModelState

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


async def test_an_idle_model_gives_its_caches_back_before_it_goes() -> None:
    async with world(shed_after_s=IDLE_S / 2) as made:
        await made.use()
        engine = made.launcher.latest
        await made.clock.tick(IDLE_S / 2 - 1)
        assert engine.n_sheds == 0
        await made.clock.tick(1)
        assert (engine.n_sheds, made.state()) == (1, ModelState.READY)
        await made.clock.tick(IDLE_S / 2)
        assert (engine.n_sheds, made.state()) == (1, ModelState.UNLOADED)


async def test_a_pinned_model_gives_its_caches_back_once_after_each_use() -> None:
    async with world(shed_after_s=10) as made:
        for n_used in (1, 2):
            await made.use(keep_alive_s=-1)
            await made.clock.tick(IDLE_S)
            assert made.launcher.latest.n_sheds == n_used


async def test_a_model_in_use_keeps_its_caches() -> None:
    async with world(shed_after_s=10) as made:
        async with made.held():
            await made.clock.tick(IDLE_S)
        await made.clock.tick(9)
        assert made.launcher.latest.n_sheds == 0


@pytest.mark.parametrize("shed_after_s", [None, 2 * IDLE_S])
async def test_caches_go_with_the_model_where_nothing_says_earlier(
    shed_after_s: float | None,
) -> None:
    async with world(shed_after_s=shed_after_s) as made:
        await made.use()
        await made.clock.tick(IDLE_S)
        assert made.launcher.latest.n_sheds == 0
        assert made.state() is ModelState.UNLOADED
