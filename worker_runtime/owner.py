"""One model's life: its owner task is the only one that changes its state.

    UNLOADED → QUEUED → RESERVED → LOADING → READY → DRAINING → UNLOADING → VERIFYING → UNLOADED
                                                 ╲ FAILED: a load failed, or it crashed too often

Callers ask for a lease and wait; the owner wakes up, brings the model up while somebody wants it,
keeps it while it is used or fresh, and takes it down.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from protos.errors import BackendFailure, BackendLoadFailed, NotReady, Overloaded, ServingError
from worker_runtime.booking import Booking
from worker_runtime.bring_up import bring_up, load_limit
from worker_runtime.catalog import Capability, ModelEntry
from worker_runtime.clock import Clock
from worker_runtime.descent import Descent
from worker_runtime.ladder import Ladder, OnMeasured, Rung
from worker_runtime.launcher import Launcher
from worker_runtime.leases import Lease, LoadedModel
from worker_runtime.load_failures import lacked_memory, with_arithmetic
from worker_runtime.memory.probe import MemoryProbe
from worker_runtime.memory.process_memory import ProcessMemory
from worker_runtime.policy import LifecyclePolicy
from worker_runtime.races import Changes, first_of
from worker_runtime.scheduler import Scheduler
from worker_runtime.setbacks import Setbacks
from worker_runtime.snapshot import ModelSnapshot, ModelState
from worker_runtime.standing import Standing
from worker_runtime.take_down import Freed, take_down
from worker_runtime.waiting_room import OnWait, WaitingRoom
from worker_runtime.wire import WireError

log = logging.getLogger(__name__)


class ModelOwner:
    def __init__(
        self,
        entry: ModelEntry,
        policy: LifecyclePolicy,
        launcher: Launcher,
        clock: Clock,
        probe: MemoryProbe,
        scheduler: Scheduler,
        ladder: Ladder,
        on_measured: OnMeasured,
        instead: Callable[[ModelEntry], Sequence[str]],
    ) -> None:
        self.entry = entry
        self._policy = policy
        self._launcher = launcher
        self._clock = clock
        self._probe = probe
        self._scheduler = scheduler
        self._ladder = ladder
        self._on_measured = on_measured
        self._instead = instead
        self._setbacks = Setbacks(policy)
        self._room = WaitingRoom(policy.max_waiting, self._on_room_change)
        self._standing = Standing(entry.id, self._room)
        self._counters = self._standing.counters
        self._loaded: LoadedModel | None = None
        self._unloads: list[asyncio.Future[Freed]] = []
        # Whatever the owner task may have to act on.
        self._changes = Changes()
        # Until when the owner task sleeps while the model is idle.
        self._alarm_s: float | None = None
        self._closing = False
        self._hurry = False
        # By the unload that goes on.
        self._freed_now = Freed()
        # What the latest load took.
        self._load_s = 0.0
        # For leases to end before the process is killed; None: as long as they take.
        self._drain_limit_s: float | None = policy.drain_s

    # For callers.

    @asynccontextmanager
    async def lease(
        self, keep_alive_s: float | None, on_wait: OnWait | None
    ) -> AsyncIterator[Lease]:
        loaded = await self._acquire(on_wait)
        self._counters.requests += 1
        try:
            yield loaded.lease(self._counters)
        finally:
            self._release(loaded, keep_alive_s)

    async def load(self, keep_alive_s: float | None, on_wait: OnWait | None) -> None:
        self._setbacks.forgive()
        self._release(await self._acquire(on_wait), keep_alive_s)

    async def unload(self) -> Freed:
        if self._standing.state in (ModelState.UNLOADED, ModelState.FAILED):
            return Freed()
        freed: asyncio.Future[Freed] = asyncio.get_running_loop().create_future()
        self._unloads.append(freed)
        self._drain_limit_s = self._policy.drain_s
        if self._loaded is not None:
            self._loaded.accepting = False
        self._changes.notify()
        return await freed

    def replace(self, entry: ModelEntry) -> None:
        """The files changed: what is loaded serves its leases to their end, then goes."""
        self.entry, self._setbacks = entry, Setbacks(self._policy)
        if self._standing.state is ModelState.FAILED:
            self._standing.enter(ModelState.UNLOADED)
        if self._loaded is not None:
            self._loaded.accepting = False
            self._changes.notify()

    def close(self, *, hurry: bool = False) -> None:
        """Refuse new leases and end `run` once the model is down; `hurry`: without draining."""
        self._closing = True
        self._drain_limit_s = self._policy.drain_s
        self._hurry = self._hurry or hurry
        self._changes.notify()

    @property
    def closing(self) -> bool:
        return self._closing

    def snapshot(self, *, is_default: bool) -> ModelSnapshot:
        now_s = self._clock.monotonic()
        loaded = self._loaded
        return self._standing.snapshot(
            self.entry,
            loaded,
            self._setbacks,
            now_s,
            memory=ProcessMemory() if loaded is None else loaded.memory(self._probe),
            booked_bytes=self._scheduler.booked_by(self),
            is_default=is_default,
        )

    # For the scheduler.

    @property
    def name(self) -> str:
        return self.entry.id

    @property
    def capability(self) -> Capability:
        return self.entry.capability

    @property
    def pid(self) -> int:
        return self._loaded.engine.pid if self._loaded is not None else 0

    @property
    def last_used_s(self) -> float:
        return self._loaded.turned_s if self._loaded is not None else 0.0

    @property
    def is_pinned(self) -> bool:
        loaded = self._loaded
        return loaded is not None and loaded.is_pinned and loaded.accepting

    def can_evict(self) -> bool:
        loaded = self._loaded
        idle = loaded is not None and loaded.accepting and loaded.n_leases == 0
        return idle and not self.is_pinned and not self._room

    def can_yield(self) -> bool:
        loaded = self._loaded
        if loaded is None or not loaded.accepting or loaded.is_pinned:
            return False
        # Never more time is spent on loading than on serving.
        turn_s = max(self._policy.turn_s, self._load_s)
        return self._clock.monotonic() - loaded.ready_s >= turn_s

    def recycle(self) -> None:
        """Its process leaks: end it while nobody uses it, the next request starts another."""
        if self.can_evict():
            log.warning("the process of model %s leaks: it is ended while idle", self.entry.id)
            self._counters.recycles += 1
            self.evict()

    def evict(self) -> None:
        assert self._loaded is not None
        self._loaded.accepting = False
        # What it has begun it may end: nobody asked for the model to go.
        self._drain_limit_s = None
        self._changes.notify()

    # The owner task.

    async def run(self) -> None:
        try:
            while not self._closing:
                await self._changes.until(lambda: len(self._room) > 0 or self._closing)
                if self._wanted():
                    await self._one_life()
        finally:
            self._closing = True
            self._room.refuse(lambda: NotReady("the worker is shutting down", retry_after_s=5))

    async def _one_life(self) -> None:
        entry, self._freed_now = self.entry, Freed()
        self._drain_limit_s = self._policy.drain_s
        try:
            descent = Descent(self._ladder(entry), self._clock, self._policy.load_timeout_s)
            while descent.rungs and self._wanted():
                await self._attempt(descent, entry)
                await first_of(self._clock.sleep(descent.pause_s), self._until_unwanted())
        except Exception:
            # The owner's outermost loop: a bug in one model's life must not end the others'.
            log.exception("the life of model %s ended in a bug", entry.id)
            self._load_failed(BackendFailure("the worker failed to manage the model"))
        finally:
            self._loaded = None
            self._end_life()

    async def _attempt(self, descent: Descent, entry: ModelEntry) -> None:
        """Load in one of the ways that are left, and live."""
        booking = await self._book(descent)
        if booking is None:
            descent.rungs = ()
            return
        try:
            loaded = await self._bring_up(descent.take(booking.rung), descent, booking)
            if loaded is not None:
                await self._live(loaded, entry)
        finally:
            self._scheduler.release(booking)

    def _end_life(self) -> None:
        failed = bool(self._setbacks.cause)
        self._standing.enter(ModelState.FAILED if failed else ModelState.UNLOADED)
        if self._setbacks.retry_after_s(self._clock.monotonic()) is not None:
            self._room.refuse(lambda: self._setbacks.failure(self._clock.monotonic()))
        for freed in self._unloads:
            if not freed.done():
                freed.set_result(self._freed_now)
        self._unloads.clear()

    async def _book(self, descent: Descent) -> Booking | None:
        self._standing.enter(ModelState.QUEUED)
        try:
            booking = await first_of(
                self._scheduler.reserve(self, [rung.need.total for rung in descent.rungs]),
                self._until_unwanted(),
                self._clock.sleep(self._policy.queue_wait_s),
            )
        except ServingError as error:
            if descent.error is not None:
                # Why it failed says more than that a smaller one does not fit either.
                self._load_failed(descent.error)
            else:
                self._refused(error)
            return None
        if booking is None and self._wanted():
            self._room.refuse(self._waited_too_long)
        return booking

    def _waited_too_long(self) -> Overloaded:
        wait_s = self._policy.queue_wait_s
        if self._scheduler.is_held_back:
            why = "programs of this machine wait for memory, so that no model is loaded"
        else:
            why = "other models are in use and hold the memory"
        return Overloaded(f"{why} for more than {wait_s:.0f} s", retry_after_s=wait_s)

    async def _bring_up(self, rung: Rung, descent: Descent, booking: Booking) -> LoadedModel | None:
        self._standing.enter(ModelState.RESERVED)
        began_s = self._clock.monotonic()
        try:
            loaded = await first_of(
                bring_up(
                    rung,
                    self._launcher,
                    self._policy,
                    self._clock,
                    self._standing.on_progress,
                    lambda pid: self._scheduler.begin(booking, pid),
                ),
                self._until_unwanted(),
                load_limit(rung.entry, self._policy, self._clock, descent.left_s()),
            )
        except ServingError as error:
            failure = self._explained(error, rung)
            if descent.failed(failure):
                log.warning("model %s: %s: trying to load it smaller", rung.entry.id, failure)
            else:
                self._load_failed(failure)
            return None
        if loaded is None:
            log.info("nobody waits for model %s any more: its load is abandoned", self.entry.id)
            return None
        took_s = self._clock.monotonic() - began_s
        self._counters.loads += 1
        self._counters.load_seconds_sum += took_s
        self._load_s = took_s
        log.info("model %s is loaded (%.1f s, pid %d)", rung.entry.id, took_s, loaded.engine.pid)
        if rung.reductions:
            log.warning("model %s is reduced: %s", self.entry.id, "; ".join(rung.reductions))
        return loaded

    def _explained(self, error: ServingError, rung: Rung) -> ServingError:
        if not lacked_memory(error):
            return error
        available_bytes = self._probe.machine().available_bytes
        others = self._scheduler.holders(without=self)
        return with_arithmetic(error, rung.need.total, available_bytes, others)

    async def _live(self, loaded: LoadedModel, entry: ModelEntry) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._notice_exit(loaded))
                self._loaded = loaded
                self._setbacks.loaded()
                self._room.grant(loaded)
                self._standing.enter(ModelState.READY)
                self._on_measured(loaded.rung, self._probe.process(loaded.engine.pid))
                if self._unloads or self.entry is not entry:
                    loaded.accepting = False
                self._scheduler.settle()
                await self._serve(loaded)
                loaded.accepting = False
                await self._take_down(loaded)
                watching.cancel()
        finally:
            loaded.accepting = False
            if loaded.engine.exit is None:
                loaded.engine.kill()

    async def _notice_exit(self, loaded: LoadedModel) -> None:
        await loaded.engine.wait()
        self._changes.notify()

    async def _serve(self, loaded: LoadedModel) -> None:
        """Return when the model has to go."""
        while loaded.accepting and loaded.engine.exit is None and not self._closing:
            idle_until_s = loaded.idle_deadline_s
            if idle_until_s is not None and idle_until_s <= self._clock.monotonic():
                log.info("model %s is idle", loaded.entry.id)
                return
            loaded.shed()
            self._alarm_s = loaded.alarm_s
            await self._changes.or_at(self._alarm_s, self._clock)

    async def _take_down(self, loaded: LoadedModel) -> None:
        engine, model = loaded.engine, loaded.entry.id
        if loaded.n_leases and engine.exit is None:
            self._standing.enter(ModelState.DRAINING)
            await first_of(
                self._changes.until(
                    lambda: self._hurry or not loaded.n_leases or engine.exit is not None
                ),
                self._drain_limit(),
            )
        if engine.exit is not None:
            self._counters.crashes += 1
            self._setbacks.crashed(str(engine.exit), self._clock.monotonic())
            log.error("the process of model %s died: %s", model, engine.exit)
            return
        self._on_measured(loaded.rung, self._probe.process(engine.pid))
        self._freed_now = await take_down(
            model,
            engine,
            self._probe,
            self._policy.stop_grace_s,
            at_once=self._hurry or loaded.n_leases > 0,
            enter=self._standing.enter,
        )
        self._standing.freed_bytes = self._freed_now.resident_bytes
        self._counters.unloads += 1

    async def _drain_limit(self) -> None:
        await self._changes.until(lambda: self._drain_limit_s is not None)
        await self._clock.sleep(self._policy.drain_s)

    # What callers and owner share.

    async def _acquire(self, on_wait: OnWait | None) -> LoadedModel:
        loaded = self._loaded
        if self._closing:
            raise NotReady("the worker is shutting down", retry_after_s=5)
        if loaded is not None and loaded.accepting and loaded.engine.exit is None:
            loaded.begin_use()
            return loaded
        if error := self._setbacks.error(self._clock.monotonic()):
            raise error
        return await self._room.wait(on_wait, lambda loaded: self._release(loaded, None))

    def _release(self, loaded: LoadedModel, keep_alive_s: float | None) -> None:
        self._counters.busy_seconds_sum += loaded.end_use(keep_alive_s)
        self._standing.last_used_s = self._clock.monotonic()
        if loaded.n_leases:
            return
        alarm_s = loaded.alarm_s
        sooner = alarm_s is not None and (self._alarm_s is None or alarm_s < self._alarm_s)
        if sooner or not loaded.accepting:
            self._changes.notify()
        self._scheduler.settle()

    def _refused(self, error: ServingError) -> None:
        """It was not tried, so nothing speaks against trying at the next request."""
        fitting = (f"use the model {model}" for model in self._instead(self.entry))
        error.suggestions = (*error.suggestions, *fitting)
        log.warning("model %s is not loaded: %s", self.entry.id, error)
        self._counters.load_failures += 1
        refused = WireError.of(self._with_backend(error))
        self._room.refuse(refused.error)

    def _load_failed(self, error: ServingError) -> None:
        log.warning("model %s could not be loaded: %s", self.entry.id, error)
        self._counters.load_failures += 1
        self._setbacks.load_failed(self._with_backend(error), self._clock.monotonic())

    def _with_backend(self, error: ServingError) -> ServingError:
        if isinstance(error, BackendLoadFailed):
            error.metadata = {"backend": self.entry.backend} | error.metadata
        return error

    def _wanted(self) -> bool:
        return len(self._room) > 0 and not self._closing

    async def _until_unwanted(self) -> None:
        await self._changes.until(lambda: not self._wanted())

    def _on_room_change(self) -> None:
        self._standing.announce()
        self._changes.notify()
