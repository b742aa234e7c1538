"""Models come: loads, those who wait for them, and what these hear."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from common.errors import Overloaded, ServingError
from tests.unit.worker_runtime.fakes import (
    settle,
)
from tests.unit.worker_runtime.world import IDLE_S, waiter, world
from worker_runtime.lifecycle.manager import WaitStatus
from worker_runtime.lifecycle.snapshot import ModelState

pytestmark = pytest.mark.timeout(30)


async def test_concurrent_first_requests_share_one_load() -> None:
    async with world(auto=False) as made:
        waiting = [await waiter(made) for _ in range(5)]
        assert made.state() is ModelState.LOADING
        assert made.model().n_waiting == 5
        made.launcher.latest.finish_load()
        assert await asyncio.gather(*waiting) == [1] * 5
        assert made.model().counters.loads == 1
        assert made.model().counters.requests == 5


async def test_a_waiter_that_leaves_is_forgotten_and_the_load_goes_on_for_the_others() -> None:
    async with world(auto=False) as made:
        leaves, stays = await waiter(made), await waiter(made)
        leaves.cancel()
        await settle()
        assert made.model().n_waiting == 1
        made.launcher.latest.finish_load()
        assert await stays == 1


async def test_a_load_is_abandoned_only_when_nobody_waits() -> None:
    async with world(auto=False) as made:
        waiting = [await waiter(made) for _ in range(2)]
        for task in waiting:
            task.cancel()
        await settle()
        assert not made.launcher.alive
        assert made.state() is ModelState.UNLOADED
        assert made.model().counters.load_failures == 0


async def test_a_caller_that_leaves_while_the_files_are_read_harms_nothing() -> None:
    may_read = asyncio.Event()

    async def slowly(function: Callable[[], Any]) -> Any:
        await may_read.wait()
        return function()

    async with world(off_loop=slowly) as made:
        leaving = await waiter(made)
        leaving.cancel()
        await settle()
        may_read.set()
        await settle()
        assert made.state() is ModelState.UNLOADED
        assert await made.use("a")


async def test_a_waiter_cancelled_in_the_moment_of_its_grant_leaves_no_lease() -> None:
    async with world(auto=False) as made:
        waiting = await waiter(made)
        made.launcher.latest.finish_load()
        while not made.model().n_leases:  # noqa: ASYNC110 - counts the loop's steps
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert made.model().n_leases == 0
        await made.clock.tick(IDLE_S)
        assert made.state() is ModelState.UNLOADED


async def test_waiters_hear_position_and_progress() -> None:
    async with world(auto=False) as made:
        heard: list[WaitStatus] = []

        async def use() -> None:
            async with made.models.lease("a", on_wait=heard.append):
                pass

        task = asyncio.create_task(use())
        await settle()
        made.launcher.latest.on_progress(0.5, "reading weights")
        made.launcher.latest.finish_load()
        await task
        assert heard[0].position == 1
        assert heard[-1] == WaitStatus(1, "load", 0.5, "reading weights")


async def test_waiters_hear_how_long_it_will_take_once_that_is_known() -> None:
    async with world(auto=False) as made:
        heard: list[WaitStatus] = []

        async def use() -> None:
            async with made.models.lease("a", keep_alive_s=0, on_wait=heard.append):
                pass

        for _ in range(2):
            task = asyncio.create_task(use())
            await settle()
            await made.clock.tick(8)
            made.launcher.latest.on_progress(0.75, "")
            made.launcher.latest.finish_load()
            await task
            await settle()
        assert heard[-1].estimated_wait_s == 2


async def test_too_many_waiters_are_refused() -> None:
    async with world(auto=False, max_waiting=2) as made:
        waiting = [await waiter(made) for _ in range(2)]
        with pytest.raises(Overloaded):
            await made.use()
        made.launcher.latest.finish_load()
        await asyncio.gather(*waiting)


async def test_a_bug_in_one_models_life_does_not_end_the_others() -> None:
    async with world(auto=False) as made:
        waiting = await waiter(made)
        made.launcher.latest.fail_load(ZeroDivisionError())
        with pytest.raises(ServingError):
            await waiting
        made.launcher.auto = True
        await made.use("b")


async def test_tokens_are_counted_by_model() -> None:
    async with world() as made:
        async with made.models.lease("") as lease:
            lease.count_tokens(prompt=7, cached=3, completion=2)
            await made.clock.tick(4)
        counters = made.model("a").counters
        assert (counters.prompt_tokens, counters.cached_tokens) == (7, 3)
        assert (counters.completion_tokens, counters.busy_seconds_sum) == (2, 4)
