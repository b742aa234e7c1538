"""The life of one model. Its owner task is the only code that changes the model's state.

    UNLOADED → QUEUED → RESERVED → LOADING → READY → DRAINING → UNLOADING → VERIFYING → UNLOADED
                                                 ╲ FAILED: a load failed, or it crashed too often

`state.ALLOWED` lists every permitted change. Callers request a lease and wait. The owner wakes
up, loads the model while a caller waits for it, keeps it loaded while it is used or recently
used, and unloads it. It loads with `load.py`, and serves and unloads with `serving.py`.
"""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from common.error_texts import ErrorText
from common.errors import BackendFailure, NotReady, ServingError
from worker_runtime.aio import Changes, first_of
from worker_runtime.catalog import Capability, ModelEntry
from worker_runtime.lifecycle.circuit_breaker import CircuitBreaker
from worker_runtime.lifecycle.fallback import Fallback
from worker_runtime.lifecycle.leases import Lease, LoadedModel
from worker_runtime.lifecycle.load import LifecycleContext, ModelLoader
from worker_runtime.lifecycle.serving import ModelServing
from worker_runtime.lifecycle.snapshot import ModelSnapshot, ModelState
from worker_runtime.lifecycle.state import StateTracker
from worker_runtime.lifecycle.unload import Freed
from worker_runtime.lifecycle.wait_queue import OnWait, WaitQueue
from worker_runtime.memory.probe import ProcessMemory

log = logging.getLogger(__name__)


class ModelOwner:
    """One model: callers lease it, memory admission evicts it, and `run` leads its life."""

    def __init__(self, entry: ModelEntry, context: LifecycleContext) -> None:
        self.entry = entry
        # The entry of the latest scan; `entry` may have the context that a load asked for.
        self.found = entry
        self._forced = False
        self._context = context
        self._policy, self._clock = context.policy, context.clock
        self._breaker = CircuitBreaker(context.policy)
        self._wait_queue = WaitQueue(context.policy.max_waiting, self._on_queue_change)
        self._tracker = StateTracker(entry.id, self._wait_queue, context.on_state)
        self._counters = self._tracker.counters
        self._loader = ModelLoader(self, context, self._wait_queue, self._tracker, self._breaker)
        # Notified whenever the owner task may have to act.
        self._changes = Changes()
        self._serving = ModelServing(
            self, context, self._wait_queue, self._tracker, self._breaker, self._changes
        )
        self.closing = False

    # Called by users of the model.

    @asynccontextmanager
    async def lease(
        self, keep_alive_s: float | None, on_wait: OnWait | None
    ) -> AsyncIterator[Lease]:
        loaded = await self._acquire(on_wait)
        lease = loaded.lease(self._counters)
        lease.count_calls(1)
        try:
            yield lease
        finally:
            loaded.keep_alive(keep_alive_s)
            self._serving.release(loaded)

    @contextmanager
    def standing_lease(self) -> Iterator[Lease]:
        """A lease for many calls, which are counted as they are served. It never loads the model,
        says nothing about how long it stays, and is to end soon after `Lease.ending` is set.

        Raises:
            NotReady: the model is not loaded.
        """
        loaded = self._serving.begin_use()
        if loaded is None:
            raise NotReady(ErrorText("model_unloaded"), retry_after_s=1)
        try:
            yield loaded.lease(self._counters)
        finally:
            self._serving.release(loaded)

    async def load(
        self,
        keep_alive_s: float | None,
        on_wait: OnWait | None,
        *,
        entry: ModelEntry | None = None,
        force: bool = False,
    ) -> None:
        """Load the model.

        Args:
            entry: the model with another context, until it is unloaded; None: as it is.
            force: as it is configured, also if it seems not to fit; leases that stand in the way
                end.
        """
        self._breaker.allow_retry()
        loaded = self._loaded
        differs = entry is not None and entry.fingerprint != self.entry.fingerprint
        if differs or (force and loaded is not None and loaded.option.reductions):
            self._take(entry or self.entry)
        self._forced = force and (loaded is None or not loaded.accepting)
        if self._forced:
            self._serving.limit_drain(0.0)
        loaded = await self._acquire(on_wait)
        loaded.keep_alive(keep_alive_s)
        self._serving.release(loaded)

    async def unload(self, *, force: bool) -> Freed:
        if self._tracker.state in (ModelState.UNLOADED, ModelState.FAILED):
            return Freed()
        return await self._serving.unload(force=force)

    def update(self, entry: ModelEntry) -> None:
        """Take the entry of a new scan. If the model itself changed, a loaded one serves its
        present leases, then it is unloaded."""
        before, self.found = self.found, entry
        if entry.fingerprint != before.fingerprint:
            self._take(entry)
        elif self.entry is before:
            self.entry = entry
        if self._loaded is not None:
            self._loaded.stays = entry.options.pinned
            self._changes.notify()

    def _take(self, entry: ModelEntry) -> None:
        self.entry = entry
        self._breaker.reset()
        if self._tracker.state is ModelState.FAILED:
            self._tracker.enter(ModelState.UNLOADED)
        self._serving.end()

    def close(self, *, hurry: bool = False) -> None:
        """Refuse new leases and end `run` once the model is unloaded; `hurry`: without draining."""
        self.closing = True
        self._serving.limit_drain(self._policy.drain_s, hurry=hurry)

    def snapshot(self, *, is_default: bool) -> ModelSnapshot:
        now_s = self._clock.monotonic()
        loaded = self._loaded
        return self._tracker.snapshot(
            self.entry,
            loaded,
            self._breaker,
            now_s,
            memory=ProcessMemory() if loaded is None else loaded.memory(self._context.probe),
            booked_bytes=self._context.admission.books.reserved_by(self),
            is_default=is_default,
        )

    # Called by memory admission (the `Tenant` protocol).

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
    def priority(self) -> int:
        return self.found.options.priority

    @property
    def is_pinned(self) -> bool:
        loaded = self._loaded
        return loaded is not None and loaded.is_pinned and loaded.accepting

    def can_evict(self) -> bool:
        loaded = self._loaded
        idle = loaded is not None and loaded.accepting and loaded.n_leases == 0
        return idle and not self.is_pinned and not self._wait_queue

    def can_yield(self) -> bool:
        loaded = self._loaded
        if loaded is None or not loaded.accepting or loaded.is_pinned:
            return False
        # A model serves at least as long as it took to load.
        turn_s = max(self._policy.turn_s, self._loader.took_s)
        return self._clock.monotonic() - loaded.ready_s >= turn_s

    def recycle(self) -> None:
        """End a leaking process while it is idle; the next request starts a new one."""
        if self.can_evict():
            log.warning("the process of model %s leaks: ending it", self.entry.id)
            self._counters.recycles += 1
            self.evict()

    def limit_caches(self, max_bytes: int) -> None:
        if self._loaded is not None:
            self._loaded.limit_caches(max_bytes)

    def evict(self) -> None:
        assert self._loaded is not None
        self._serving.end()

    # The owner task.

    async def run(self) -> None:
        try:
            while not self.closing:
                await self._changes.until(lambda: len(self._wait_queue) > 0 or self.closing)
                if self.wanted():
                    await self._load_and_serve()
        finally:
            self.closing = True
            self._wait_queue.refuse(lambda: NotReady(ErrorText("worker_stopping"), retry_after_s=5))

    async def _load_and_serve(self) -> None:
        entry = self.entry
        self._serving.begin_load()
        forced, self._forced = self._forced, False
        try:
            fallback = await self._loader.options(entry, forced=forced)
            while fallback.options and self.wanted():
                await self._attempt(fallback, entry)
                await first_of(self._clock.sleep(fallback.pause_s), self.until_unwanted())
        except ServingError as error:
            self._loader.failed(error)
        except Exception:
            # The task's outermost loop: a bug in the life of one model must not end the others.
            log.exception("managing model %s failed because of a bug", entry.id)
            self._loader.failed(BackendFailure(ErrorText("worker_failed_to_manage")))
        finally:
            self._serving.loaded = None
            self._enter_end_state()
            if self.entry.fingerprint == entry.fingerprint != self.found.fingerprint:
                self._take(self.found)

    async def _attempt(self, fallback: Fallback, entry: ModelEntry) -> None:
        """Load one of the options that are left and serve it until it is unloaded."""
        reservation = await self._loader.reserve(fallback)
        if reservation is None:
            fallback.options = ()
            return
        try:
            loaded = await self._loader.bring_up(fallback, reservation)
            if loaded is not None:
                loaded.stays = self.found.options.pinned
                if self.entry.fingerprint != entry.fingerprint:
                    loaded.ending.set()
                await self._serving.serve_until_unloaded(loaded)
        finally:
            self._context.admission.release(reservation)

    def _enter_end_state(self) -> None:
        end = ModelState.FAILED if self._breaker.cause else ModelState.UNLOADED
        # It never left this state if nobody waited any more when the files had been read.
        if self._tracker.state is not end:
            self._tracker.enter(end)
        if self._breaker.retry_after_s(self._clock.monotonic()) is not None:
            self._wait_queue.refuse(lambda: self._breaker.failure(self._clock.monotonic()))
        self._serving.end_load()

    # Shared by callers and the owner task.

    @property
    def _loaded(self) -> LoadedModel | None:
        return self._serving.loaded

    async def _acquire(self, on_wait: OnWait | None) -> LoadedModel:
        if self.closing:
            raise NotReady(ErrorText("worker_stopping"), retry_after_s=5)
        loaded = self._serving.begin_use()
        if loaded is not None:
            return loaded
        if error := self._breaker.error(self._clock.monotonic()):
            raise error
        return await self._wait_queue.wait(on_wait, self._serving.release)

    def wanted(self) -> bool:
        return len(self._wait_queue) > 0 and not self.closing

    async def until_unwanted(self) -> None:
        await self._changes.until(lambda: not self.wanted())

    async def until_closing(self) -> None:
        await self._changes.until(lambda: self.closing)

    def _on_queue_change(self) -> None:
        self._tracker.announce()
        self._changes.notify()
