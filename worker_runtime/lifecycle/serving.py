"""Serves one loaded model until it is unloaded: decides when that is due, waits for the leases that
are left, and ends the process."""

import asyncio
import logging
from typing import Protocol

import msgspec

from worker_runtime.aio import Changes, first_of
from worker_runtime.lifecycle.circuit_breaker import CircuitBreaker
from worker_runtime.lifecycle.leases import LoadedModel
from worker_runtime.lifecycle.load import LifecycleContext
from worker_runtime.lifecycle.snapshot import ModelState
from worker_runtime.lifecycle.state import StateTracker
from worker_runtime.lifecycle.unload import Freed, unload_engine
from worker_runtime.lifecycle.wait_queue import WaitQueue

log = logging.getLogger(__name__)


class Owner(Protocol):
    """The model's owner, as its serving sees it."""

    # The model is to be given up, whoever uses it.
    closing: bool

    @property
    def name(self) -> str: ...


class ModelServing:
    """Serves the loads of one owner, one after the other.

    Args:
        changes: notified whenever the owner task may have to act.
    """

    def __init__(
        self,
        owner: Owner,
        context: LifecycleContext,
        wait_queue: WaitQueue,
        tracker: StateTracker,
        breaker: CircuitBreaker,
        changes: Changes,
    ) -> None:
        # Set from when the model is ready until its load has ended.
        self.loaded: LoadedModel | None = None
        self._owner = owner
        self._context = context
        self._policy, self._clock = context.policy, context.clock
        self._wait_queue = wait_queue
        self._tracker = tracker
        self._breaker = breaker
        self._changes = changes
        self._unloads: list[asyncio.Future[Freed]] = []
        # When the owner task wakes up by itself while the model is idle.
        self._alarm_s: float | None = None
        self._hurry = False
        # What the present unload has freed.
        self._freed_now = Freed()
        # Seconds until a process with leases is killed; None: wait as long as the leases last,
        # because no client may end what another has begun.
        self._drain_limit_s: float | None = None

    # Called for users of the model.

    def begin_use(self) -> LoadedModel | None:
        """Begin a use, which `release` ends; None if no lease is granted now."""
        loaded = self.loaded
        if loaded is None or not self._is_served(loaded):
            return None
        loaded.begin_use()
        return loaded

    def release(self, loaded: LoadedModel) -> None:
        """End a use."""
        self._tracker.counters.busy_seconds_sum += loaded.end_use()
        self._tracker.last_used_s = self._clock.monotonic()
        if loaded.n_leases:
            return
        alarm_s = loaded.alarm_s
        sooner = alarm_s is not None and (self._alarm_s is None or alarm_s < self._alarm_s)
        if sooner or not loaded.accepting:
            self._changes.notify()
        self._context.admission.settle()

    def end(self) -> None:
        """If the model is loaded, grant no more leases and unload it when those that are held
        end."""
        if self.loaded is not None:
            self.loaded.ending.set()
            self._changes.notify()

    def limit_drain(self, limit_s: float, *, hurry: bool = False) -> None:
        """Wait for leases no longer than `limit_s` once the model drains; `hurry`: not at all."""
        self._drain_limit_s = limit_s
        self._hurry = self._hurry or hurry
        self._changes.notify()

    async def unload(self, *, force: bool) -> Freed:
        """End the present load, which may not be ready yet, and return when it has ended; `force`:
        without draining."""
        freed: asyncio.Future[Freed] = asyncio.get_running_loop().create_future()
        self._unloads.append(freed)
        n_running = 0 if self.loaded is None else self.loaded.n_leases
        self.end()
        if n_running:
            what, model = "ends" if force else "waits for", self._owner.name
            log.info("the unload of model %s %s %d requests", model, what, n_running)
        if force:
            self.limit_drain(0.0)
        return msgspec.structs.replace(await freed, n_running=n_running)

    # Called by the owner task.

    def begin_load(self) -> None:
        """Forget how the load before this one ended."""
        self._freed_now = Freed()
        self._drain_limit_s = None

    def end_load(self) -> None:
        """Answer those who wait for the unload."""
        for freed in self._unloads:
            if not freed.done():
                freed.set_result(self._freed_now)
        self._unloads.clear()

    async def serve_until_unloaded(self, loaded: LoadedModel) -> None:
        """Grant leases until the model is unloaded or its process has died."""
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._notice_exit(loaded))
                self.loaded = loaded
                self._breaker.loaded()
                self._wait_queue.grant(loaded)
                self._tracker.enter(ModelState.READY)
                self._measure(loaded)
                if self._unloads:
                    loaded.ending.set()
                self._context.admission.settle()
                await self._serve(loaded)
                loaded.ending.set()
                await self._drain_and_unload(loaded)
                watching.cancel()
        finally:
            loaded.ending.set()
            if loaded.engine.exit is None:
                loaded.engine.kill()

    def _measure(self, loaded: LoadedModel) -> None:
        self._context.on_measured(loaded.option, self._context.probe.process(loaded.engine.pid))

    async def _notice_exit(self, loaded: LoadedModel) -> None:
        await loaded.engine.wait()
        self._changes.notify()

    async def _serve(self, loaded: LoadedModel) -> None:
        """Serve until the model must be unloaded."""
        while self._is_served(loaded):
            idle_until_s = loaded.idle_deadline_s
            if idle_until_s is not None and idle_until_s <= self._clock.monotonic():
                log.info("model %s is idle", loaded.entry.id)
                return
            loaded.shed()
            self._alarm_s = loaded.alarm_s
            await self._changes.or_at(self._alarm_s, self._clock)

    def _is_served(self, loaded: LoadedModel) -> bool:
        return loaded.accepting and loaded.engine.exit is None and not self._owner.closing

    async def _drain_and_unload(self, loaded: LoadedModel) -> None:
        engine, model = loaded.engine, loaded.entry.id
        if loaded.n_leases and engine.exit is None:
            self._tracker.enter(ModelState.DRAINING)
            await first_of(
                self._changes.until(
                    lambda: self._hurry or not loaded.n_leases or engine.exit is not None
                ),
                self._drain_limit(),
            )
        if engine.exit is not None:
            self._tracker.counters.crashes += 1
            self._breaker.crashed(str(engine.exit), self._clock.monotonic())
            if engine.exit.is_fault and not loaded.n_served:
                self._context.kernels.broke_down(loaded.option, str(engine.exit))
            log.error("the process of model %s died: %s", model, engine.exit)
            return
        self._measure(loaded)
        self._freed_now = await unload_engine(
            model,
            engine,
            self._context.probe,
            self._policy.stop_grace_s,
            at_once=self._hurry or loaded.n_leases > 0,
            enter=self._tracker.enter,
        )
        self._tracker.freed_bytes = self._freed_now.resident_bytes
        self._tracker.counters.unloads += 1

    async def _drain_limit(self) -> None:
        await self._changes.until(lambda: self._drain_limit_s is not None)
        await self._clock.sleep(self._drain_limit_s or 0.0)
