"""Tracks a model's state, load progress and counters, and reports changes to waiting callers."""

import copy
import logging
from collections.abc import Callable

import msgspec

from worker_runtime.catalog import ModelEntry
from worker_runtime.lifecycle.circuit_breaker import CircuitBreaker
from worker_runtime.lifecycle.leases import LoadedModel
from worker_runtime.lifecycle.snapshot import Counters, ModelSnapshot, ModelState
from worker_runtime.lifecycle.wait_queue import WaitQueue, WaitStatus
from worker_runtime.memory.probe import ProcessMemory

LOADING = frozenset({ModelState.RESERVED, ModelState.LOADING})

_ENDS = frozenset({ModelState.UNLOADED, ModelState.FAILED})
# The states that may follow each state. Every state but the final two can lead to either of
# those, because a load may be abandoned or fail and a process may die. ARCHITECTURE.md draws this.
ALLOWED: dict[ModelState, frozenset[ModelState]] = {
    # Directly to FAILED when the files cannot be read.
    ModelState.UNLOADED: frozenset({ModelState.QUEUED, ModelState.FAILED}),
    # To UNLOADED when the files were changed, to QUEUED when a load is tried again.
    ModelState.FAILED: frozenset({ModelState.UNLOADED, ModelState.QUEUED}),
    ModelState.QUEUED: frozenset({ModelState.RESERVED}) | _ENDS,
    # Back to QUEUED when the load did not start and a smaller option is tried.
    ModelState.RESERVED: frozenset({ModelState.LOADING, ModelState.QUEUED}) | _ENDS,
    ModelState.LOADING: frozenset({ModelState.READY, ModelState.QUEUED}) | _ENDS,
    ModelState.READY: frozenset({ModelState.DRAINING, ModelState.UNLOADING}) | _ENDS,
    ModelState.DRAINING: frozenset({ModelState.UNLOADING}) | _ENDS,
    ModelState.UNLOADING: frozenset({ModelState.VERIFYING}) | _ENDS,
    ModelState.VERIFYING: _ENDS,
}

log = logging.getLogger(__name__)


class StateTracker:
    """Changed by the model's owner only; every change is reported to those in `wait_queue`.

    Args:
        on_state: called after each change of the state itself.
    """

    def __init__(self, model: str, wait_queue: WaitQueue, on_state: Callable[[], None]) -> None:
        self.state = ModelState.UNLOADED
        self.counters = Counters()
        self.last_used_s: float | None = None
        # Bytes that the last unload freed.
        self.freed_bytes: int | None = None
        self._model = model
        self._wait_queue = wait_queue
        self._on_state = on_state
        self._load_fraction = 0.0
        self._load_stage = ""

    def enter(self, state: ModelState) -> None:
        assert state in ALLOWED[self.state], f"{self.state.value} → {state.value}"
        log.debug("model %s: %s → %s", self._model, self.state.value, state.value)
        self.state = state
        self._load_fraction, self._load_stage = 0.0, ""
        self.announce()
        self._on_state()

    def on_progress(self, fraction: float, stage: str) -> None:
        if self.state is ModelState.RESERVED:
            self.enter(ModelState.LOADING)
        self._load_fraction, self._load_stage = fraction, stage
        self.announce()

    def announce(self) -> None:
        """Report place and load progress to each waiting caller for whom they changed."""
        loading = self.state in LOADING
        self._wait_queue.notify(
            lambda position: WaitStatus(
                position,
                "load" if loading else "queue",
                self._load_fraction,
                self._load_stage,
                self._rest_of_load_s() if loading else None,
            )
        )

    def _rest_of_load_s(self) -> float | None:
        """Estimated from the mean duration of past loads; None before the first."""
        if not self.counters.loads:
            return None
        typical_s = self.counters.load_seconds_sum / self.counters.loads
        return typical_s * (1.0 - self._load_fraction)

    def snapshot(
        self,
        entry: ModelEntry,
        loaded: LoadedModel | None,
        breaker: CircuitBreaker,
        now_s: float,
        *,
        memory: ProcessMemory,
        booked_bytes: int,
        is_default: bool,
    ) -> ModelSnapshot:
        in_use = loaded is not None and loaded.n_leases > 0
        found = ModelSnapshot(
            entry,
            is_default,
            self.state,
            copy.copy(self.counters),
            n_waiting=len(self._wait_queue),
            load_fraction=self._load_fraction,
            load_stage=self._load_stage,
            idle_s=None if in_use or self.last_used_s is None else now_s - self.last_used_s,
            memory=memory,
            booked_bytes=booked_bytes,
            failure=breaker.cause,
            retry_after_s=breaker.retry_after_s(now_s),
            freed_bytes=self.freed_bytes,
        )
        return found if loaded is None else _with_loaded(found, loaded, now_s)


def _of_now(loaded: ModelEntry, found: ModelEntry) -> ModelEntry:
    return msgspec.structs.replace(loaded, options=found.options)


def _with_loaded(found: ModelSnapshot, loaded: LoadedModel, now_s: float) -> ModelSnapshot:
    deadline_s = loaded.idle_deadline_s
    is_itself = loaded.entry.id == found.entry.id
    return msgspec.structs.replace(
        found,
        # Another backend may run it than was planned; names and such may be newer than the load.
        entry=_of_now(loaded.entry, found.entry) if is_itself else found.entry,
        n_leases=loaded.n_leases,
        loaded_at_s=loaded.loaded_at_s,
        pid=loaded.engine.pid,
        requests_of_load=loaded.n_requests,
        need=loaded.option.need,
        pinned=loaded.is_pinned,
        expires_in_s=None if deadline_s is None else max(deadline_s - now_s, 0.0),
        reductions=loaded.option.reductions,
        chat_template=loaded.shown_facts.chat_template,
        served_by="" if is_itself else loaded.entry.id,
    )
