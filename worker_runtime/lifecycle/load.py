"""Loads one model: reserves memory, starts a process, loads the model into it, and reports a
failure to the callers that wait."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Never, Protocol

from common.error_texts import ErrorText
from common.errors import BackendLoadFailed, Overloaded, ServingError, WorkerLost
from worker_runtime.aio import first_of, to_the_end
from worker_runtime.catalog import ModelEntry
from worker_runtime.clock import Clock
from worker_runtime.engine_process.interface import Launcher, OnProgress
from worker_runtime.engine_process.load_errors import (
    broke_down,
    completed,
    died_while_loading,
    is_out_of_memory,
    load_failed,
    raised_while_loading,
    with_arithmetic,
)
from worker_runtime.engine_process.protocol import PipeError
from worker_runtime.lifecycle.circuit_breaker import CircuitBreaker
from worker_runtime.lifecycle.fallback import Fallback
from worker_runtime.lifecycle.leases import LoadedModel
from worker_runtime.lifecycle.load_options import AsyncLoadOptions, LoadOption, OnMeasured
from worker_runtime.lifecycle.snapshot import ModelState
from worker_runtime.lifecycle.state import StateTracker
from worker_runtime.lifecycle.wait_queue import WaitQueue
from worker_runtime.machine.kernel_memory import Kernels
from worker_runtime.memory.admission import MemoryAdmission
from worker_runtime.memory.probe import MemoryProbe
from worker_runtime.memory.reservation import Reservation, Tenant
from worker_runtime.policy import LifecyclePolicy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LifecycleContext:
    """What all owners of a worker share.

    Args:
        instead: returns ids of models that would fit where the given one does not.
        on_state: called after each change of a model's state.
    """

    policy: LifecyclePolicy
    launcher: Launcher
    clock: Clock
    probe: MemoryProbe
    admission: MemoryAdmission
    load_options: AsyncLoadOptions
    on_measured: OnMeasured
    kernels: Kernels
    instead: Callable[[ModelEntry], Sequence[str]]
    on_state: Callable[[], None]


class Owner(Tenant, Protocol):
    """The model's owner, as its loader sees it."""

    entry: ModelEntry

    def wanted(self) -> bool:
        """Whether a caller waits for the model."""

    async def until_unwanted(self) -> None: ...

    async def until_closing(self) -> None:
        """Return when the model is to be given up, whoever waits for it."""


class ModelLoader:
    """Loads the model of one owner; used by its owner task only."""

    def __init__(
        self,
        owner: Owner,
        context: LifecycleContext,
        wait_queue: WaitQueue,
        tracker: StateTracker,
        breaker: CircuitBreaker,
    ) -> None:
        self._owner = owner
        self._context = context
        self._wait_queue = wait_queue
        self._tracker = tracker
        self._breaker = breaker
        # Duration of the latest load in seconds.
        self.took_s = 0.0
        self._forced = False

    async def options(self, entry: ModelEntry, *, forced: bool) -> Fallback:
        """Ask for the model's load options; there are none if no caller waits any more.

        Args:
            forced: only the preferred one, which is loaded also if it seems not to fit.

        Raises:
            BackendLoadFailed: the files cannot be read, or not in time.
        """
        context, owner, limit_s = self._context, self._owner, self._context.policy.load_timeout_s
        options = await first_of(
            context.load_options(entry), owner.until_unwanted(), context.clock.sleep(limit_s)
        )
        if options is None and owner.wanted():
            raise load_failed(entry.backend, ErrorText("files_too_slow", limit_s=limit_s))
        self._forced = forced
        allowed = await context.kernels.allowed((options or ())[: 1 if forced else None])
        return Fallback(allowed, context.clock, limit_s)

    async def reserve(self, fallback: Fallback) -> Reservation | None:
        """Reserve memory for one of the options that are left.

        Returns:
            The reservation. None if none was possible (waiting callers have the error), or if
            nobody waits.
        """
        self._tracker.enter(ModelState.QUEUED)
        context, needs = self._context, [option.need for option in fallback.options]
        try:
            reservation = await first_of(
                context.admission.reserve(
                    self._owner,
                    [need.total for need in needs],
                    [need.spare for need in needs],
                    forced=self._forced,
                ),
                self._owner.until_unwanted(),
                context.clock.sleep(context.policy.queue_wait_s),
            )
        except ServingError as error:
            if fallback.error is not None:
                # The first failure explains more than the fact that a smaller option does not fit
                # either.
                self.failed(fallback.error)
            else:
                self._refused(error)
            return None
        if reservation is None and self._owner.wanted():
            self._wait_queue.refuse(self._waited_too_long)
        return reservation

    async def bring_up(self, fallback: Fallback, reservation: Reservation) -> LoadedModel | None:
        """Load the option that was reserved.

        Returns:
            The loaded model. None if the load failed (`fallback` or the waiting callers have the
            error), or if nobody waits.
        """
        context, option = self._context, fallback.take(reservation.option)
        self._tracker.enter(ModelState.RESERVED)
        began_s = context.clock.monotonic()
        # A conversion that has begun is finished: the next request would have to begin it again.
        converts = option.need.converting > 0
        ended = self._owner.until_closing() if converts else self._owner.until_unwanted()
        try:
            loaded = await first_of(
                load_in_process(
                    option,
                    context.launcher,
                    context.policy,
                    context.clock,
                    self._tracker.on_progress,
                    lambda pid: context.admission.begin(reservation, pid),
                ),
                ended,
                load_timeout(option.entry, context.policy, context.clock, fallback.left_s()),
            )
        except ServingError as error:
            failure = self._explained(error, option)
            if broke_down(failure):
                context.kernels.broke_down(option, failure.metadata["exit"])
            if fallback.failed(failure):
                log.warning("model %s: %s: trying another option", option.entry.id, failure)
            else:
                self.failed(failure)
            return None
        if loaded is None:
            model = self._owner.name
            log.info("no request waits for model %s any more: its load is cancelled", model)
            return None
        context.admission.keep(reservation, option.need.loaded + reservation.spare_bytes)
        if reservation.spare_bytes:
            loaded.limit_caches(reservation.spare_bytes)
        self._succeeded(loaded, context.clock.monotonic() - began_s)
        return loaded

    def failed(self, error: ServingError) -> None:
        """Record a failed load; the error goes to waiting callers and to those that come too
        soon."""
        log.warning("model %s could not be loaded: %s", self._owner.name, error)
        self._tracker.counters.load_failures += 1
        now_s = self._context.clock.monotonic()
        self._breaker.load_failed(self._with_backend(error), now_s)

    def _succeeded(self, loaded: LoadedModel, took_s: float) -> None:
        self.took_s = took_s
        self._context.kernels.loaded(loaded.option)
        self._tracker.counters.loads += 1
        self._tracker.counters.load_seconds_sum += took_s
        model, pid = loaded.entry.id, loaded.engine.pid
        log.info("model %s is loaded (%.1f s, pid %d)", model, took_s, pid)
        if loaded.option.reductions:
            reductions = "; ".join(loaded.option.reductions)
            log.warning("model %s is reduced: %s", self._owner.name, reductions)

    def _explained(self, error: ServingError, option: LoadOption) -> ServingError:
        if not is_out_of_memory(error):
            return error
        available_bytes = self._context.probe.machine().available_bytes
        others = self._context.admission.books.holders(without=self._owner)
        return with_arithmetic(error, option.need.total, available_bytes, others)

    def _waited_too_long(self) -> Overloaded:
        wait_s = self._context.policy.queue_wait_s
        if self._context.admission.is_held_back:
            why = ErrorText("programs_wait_for_memory", wait_s=wait_s)
        else:
            why = ErrorText("models_hold_memory", wait_s=wait_s)
        return Overloaded(why, retry_after_s=wait_s)

    def _refused(self, error: ServingError) -> None:
        """Refuse waiting callers without back-off: no load was tried, so the next request may."""
        fitting = (
            ErrorText("use_model", model=model)
            for model in self._context.instead(self._owner.entry)
        )
        error.suggestions = (*error.suggestions, *fitting)
        log.warning("model %s is not loaded: %s", self._owner.name, error)
        self._tracker.counters.load_failures += 1
        refused = PipeError.of(self._with_backend(error))
        self._wait_queue.refuse(refused.error)

    def _with_backend(self, error: ServingError) -> ServingError:
        if isinstance(error, BackendLoadFailed):
            error.metadata = {"backend": self._owner.entry.backend} | error.metadata
        return error


async def load_in_process(
    option: LoadOption,
    launcher: Launcher,
    policy: LifecyclePolicy,
    clock: Clock,
    on_progress: OnProgress,
    on_start: Callable[[int], None],
) -> LoadedModel:
    """Load `option` in a process of its own. Cancelling ends the process.

    Args:
        on_start: called with the process id before the process takes memory.
    Raises:
        ServingError: why the model could not be loaded, fit for the client.
    """
    entry = option.entry
    try:
        engine = await launcher.start(entry)
    except OSError as error:
        raise raised_while_loading(entry.backend, error) from error
    reduced = f", loading reduced: {'; '.join(option.reductions)}" if option.reductions else ""

    def report_progress(fraction: float, stage: str) -> None:
        on_progress(fraction, stage + reduced)

    loaded: LoadedModel | None = None
    try:
        on_start(engine.pid)
        report_progress(0.0, "starting")
        facts = await engine.load(entry.load_spec, report_progress)
        loaded = LoadedModel(option, engine, facts, clock, policy)
    except WorkerLost:
        raise died_while_loading(entry.backend, await engine.wait()) from None
    except BackendLoadFailed as error:
        raise completed(entry.backend, error) from None
    finally:
        if loaded is None and engine.exit is None:
            # The memory stays reserved until the process is gone.
            await to_the_end(engine.stop(policy.stop_grace_s), on_cancel=engine.kill)
    return loaded


async def load_timeout(
    entry: ModelEntry, policy: LifecyclePolicy, clock: Clock, left_s: float
) -> Never:
    """Wait until the time for a load is over, then raise.

    Args:
        left_s: seconds left for the load.
    Raises:
        BackendLoadFailed: always, after `left_s`.
    """
    await clock.sleep(left_s)
    raise load_failed(entry.backend, ErrorText("load_too_slow", limit_s=policy.load_timeout_s))
