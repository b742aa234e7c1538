"""The rules of a model's life, one by one, with time and processes in the test's hands."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from protos.errors import (
    BackendLoadFailed,
    ModelNotFound,
    NotReady,
    Overloaded,
    ServingError,
)
from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fakes import (
    RESIDENT_BYTES,
    FakeClock,
    FakeLauncher,
    FakeProbe,
    settle,
)
from worker_runtime.catalog import Catalog, ModelEntry, Scan
from worker_runtime.ladder import Rung
from worker_runtime.lifecycle import LifecyclePolicy, Models, Waiting
from worker_runtime.memory.need import Need
from worker_runtime.snapshot import ModelSnapshot, ModelState
from worker_runtime.take_down import Freed

IDLE_S = 60.0

pytestmark = pytest.mark.timeout(30)


class World:
    def __init__(self, policy: LifecyclePolicy, *, auto: bool, entries: list[ModelEntry]) -> None:
        self.clock = FakeClock()
        self.launcher = FakeLauncher(auto=auto)
        self.probe = FakeProbe()
        self.entries = entries
        self.catalog = Catalog(
            lambda: Scan(self.entries, self.entries[0].id if self.entries else ""),
            ttl_s=1e9,
            clock=self.clock,
        )
        self.models = Models(
            self.catalog,
            policy,
            self.launcher,
            self.clock,
            self.probe,
            ladder=lambda entry: (Rung(entry, Need(weights=entry.size_bytes)),),
        )

    def model(self, model: str = "a") -> ModelSnapshot:
        return next(s for s in self.models.snapshot() if s.entry.id == model)

    def state(self, model: str = "a") -> ModelState:
        return self.model(model).state

    async def use(self, model: str = "a", keep_alive_s: float | None = None) -> int:
        async with self.models.lease(model, keep_alive_s=keep_alive_s) as lease:
            return lease.engine.pid

    @contextlib.asynccontextmanager
    async def held(self, model: str = "a") -> AsyncIterator[asyncio.Task[None]]:
        """A lease held by another task until the end of the block."""
        ready, done = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with self.models.lease(model):
                ready.set()
                await done.wait()

        task = asyncio.create_task(hold())
        await ready.wait()
        try:
            yield task
        finally:
            done.set()
            await task
            await settle()


@contextlib.asynccontextmanager
async def world(
    *, auto: bool = True, entries: list[ModelEntry] | None = None, **policy: object
) -> AsyncIterator[World]:
    numbers = {"idle_timeout_s": IDLE_S} | policy
    found = entries if entries is not None else [entry("a"), entry("b"), entry("c")]
    made = World(LifecyclePolicy(**numbers), auto=auto, entries=found)  # type: ignore[arg-type]
    async with made.models:
        yield made
        for engine in made.launcher.alive:
            engine.ignores_stop = False
        await made.models.close(hurry=True)
        assert not made.launcher.alive


async def waiter(made: World, model: str = "a") -> asyncio.Task[int]:
    task = asyncio.create_task(made.use(model))
    await settle()
    return task


async def test_concurrent_first_requests_share_one_load() -> None:
    async with world(auto=False) as made:
        waiting = [await waiter(made) for _ in range(5)]
        assert made.state() is ModelState.LOADING
        assert made.model().n_waiting == 5
        made.launcher.latest.finish_load()
        assert await asyncio.gather(*waiting) == [1] * 5
        assert made.model().counters.loads == 1
        assert made.model().counters.requests == 5


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
        heard: list[Waiting] = []

        async def use() -> None:
            async with made.models.lease("a", on_wait=heard.append):
                pass

        task = asyncio.create_task(use())
        await settle()
        made.launcher.latest.on_progress(0.5, "reading weights")
        made.launcher.latest.finish_load()
        await task
        assert heard[0].position == 1
        assert heard[-1] == Waiting(1, "load", 0.5, "reading weights")


async def test_waiters_hear_how_long_it_will_take_once_that_is_known() -> None:
    async with world(auto=False) as made:
        heard: list[Waiting] = []

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


async def test_too_many_waiters_are_refused() -> None:
    async with world(auto=False, max_waiting=2) as made:
        waiting = [await waiter(made) for _ in range(2)]
        with pytest.raises(Overloaded):
            await made.use()
        made.launcher.latest.finish_load()
        await asyncio.gather(*waiting)


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


async def test_draining_ends_at_its_deadline_with_a_kill() -> None:
    async with world(drain_s=25.0) as made:
        async with made.held():
            unloading = asyncio.create_task(made.models.unload("a"))
            await settle()
            await made.clock.tick(24)
            assert made.launcher.alive
            await made.clock.tick(1)
            assert (await unloading).resident_bytes == RESIDENT_BYTES
            assert not made.launcher.alive
        assert made.model().n_leases == 0


async def test_a_model_that_changed_on_disk_is_loaded_anew_once_its_leases_end() -> None:
    async with world() as made:
        async with made.held():
            made.entries = [entry("a", fingerprint="fp_new"), entry("b")]
            made.models.rescan()
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
        made.models.rescan()
        assert made.state() is ModelState.UNLOADED
        made.launcher.auto = True
        assert await made.use() == 2


async def test_a_model_that_went_from_disk_is_unloaded_and_not_found() -> None:
    async with world() as made:
        await made.use()
        made.entries = [entry("b")]
        made.models.rescan()
        await settle()
        assert not made.launcher.alive
        with pytest.raises(ModelNotFound):
            await made.use()
        made.entries = [entry("a")]
        made.models.rescan()
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
