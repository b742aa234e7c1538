"""What goes wrong with a model: failed loads, back-off, crashes."""

import asyncio

import pytest

from common.errors import BackendLoadFailed
from tests.unit.worker_runtime.fakes import (
    settle,
)
from tests.unit.worker_runtime.world import waiter, world
from worker_runtime.lifecycle.snapshot import ModelState

pytestmark = pytest.mark.timeout(30)


async def test_all_waiters_learn_the_failure_and_the_next_is_refused_at_once() -> None:
    async with world(auto=False) as made:
        waiting = [await waiter(made) for _ in range(3)]
        made.launcher.latest.fail_load(BackendLoadFailed("bad layer"))
        failures = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(failure) for failure in failures] == ["bad layer"] * 3
        assert len({id(failure) for failure in failures}) == 3
        assert made.state() is ModelState.FAILED
        with pytest.raises(BackendLoadFailed) as caught:
            await made.use()
        assert caught.value.retry_after_s == 10
        assert len(made.launcher.engines) == 1
        assert not made.launcher.alive


async def test_failed_loads_back_off_doubling_to_five_minutes() -> None:
    async with world(auto=False) as made:
        waits = []
        for _ in range(8):
            waiting = await waiter(made)
            made.launcher.latest.fail_load(BackendLoadFailed("no"))
            with pytest.raises(BackendLoadFailed) as caught:
                await waiting
            waits.append(caught.value.retry_after_s)
            await made.clock.tick(caught.value.retry_after_s or 0)
        assert waits == [10, 20, 40, 80, 160, 300, 300, 300]
        made.launcher.auto = True
        await made.use()
        assert made.state() is ModelState.READY
        assert made.model().failure == ""


async def test_a_load_by_hand_does_not_wait_for_the_back_off() -> None:
    async with world(auto=False) as made:
        waiting = await waiter(made)
        made.launcher.latest.fail_load(BackendLoadFailed("no"))
        await asyncio.gather(waiting, return_exceptions=True)
        made.launcher.auto = True
        await made.models.load("a")
        assert made.state() is ModelState.READY
        assert made.model().counters.requests == 0


async def test_a_crash_is_counted_and_the_next_lease_gets_a_fresh_process() -> None:
    async with world() as made:
        await made.use()
        made.launcher.latest.die()
        await settle()
        assert made.state() is ModelState.UNLOADED
        assert made.model().counters.crashes == 1
        assert await made.use() == 2


async def test_five_crashes_in_a_minute_open_the_breaker() -> None:
    async with world() as made:
        for _ in range(5):
            await made.use()
            made.launcher.latest.die()
            await settle()
            await made.clock.tick(2)
        assert made.state() is ModelState.FAILED
        with pytest.raises(BackendLoadFailed, match="5 times") as caught:
            await made.use()
        assert caught.value.retry_after_s == 50
        await made.clock.tick(50)
        assert await made.use() == 6


async def test_slow_crashes_do_not_open_the_breaker() -> None:
    async with world() as made:
        for crash in range(10):
            assert await made.use() == crash + 1
            made.launcher.latest.die()
            await made.clock.tick(20)


async def test_a_kill_during_the_load_is_explained_as_memory() -> None:
    async with world(auto=False) as made:
        waiting = await waiter(made)
        made.launcher.latest.die("SIGKILL")
        with pytest.raises(BackendLoadFailed, match="not enough memory") as caught:
            await waiting
        assert "use a smaller model" in caught.value.suggestions
        assert caught.value.metadata["backend"] == "stub"


async def test_a_process_that_cannot_be_started_is_a_failed_load() -> None:
    async with world() as made:
        made.launcher.start_error = OSError(12, "Cannot allocate memory")
        with pytest.raises(BackendLoadFailed, match="not enough memory"):
            await made.use()


async def test_a_load_has_a_time_limit() -> None:
    async with world(auto=False, load_timeout_s=100.0) as made:
        waiting = await waiter(made)
        await made.clock.tick(100)
        with pytest.raises(BackendLoadFailed, match="longer than 100 s"):
            await waiting
        assert not made.launcher.alive
