"""How one model gets loaded: memory is booked, a process brought up, and who waits told why not."""

import logging
from typing import Protocol

from common.errors import BackendLoadFailed, Overloaded, ServingError
from worker_runtime.bring_up import bring_up, load_limit
from worker_runtime.catalog import ModelEntry
from worker_runtime.descent import Descent
from worker_runtime.engine_process.load_errors import is_out_of_memory, with_arithmetic
from worker_runtime.engine_process.protocol import PipeError
from worker_runtime.ladder import Rung
from worker_runtime.leases import LoadedModel
from worker_runtime.memory.reservation import Reservation, Tenant
from worker_runtime.races import first_of
from worker_runtime.setbacks import Setbacks
from worker_runtime.snapshot import ModelState
from worker_runtime.standing import Standing
from worker_runtime.surroundings import Surroundings
from worker_runtime.waiting_room import WaitingRoom

log = logging.getLogger(__name__)


class Owner(Tenant, Protocol):
    """Whose model it is."""

    entry: ModelEntry

    def wanted(self) -> bool:
        """Whether anybody waits for it."""

    async def until_unwanted(self) -> None: ...


class Loading:
    def __init__(
        self,
        owner: Owner,
        around: Surroundings,
        room: WaitingRoom,
        standing: Standing,
        setbacks: Setbacks,
    ) -> None:
        self._owner = owner
        self._around = around
        self._room = room
        self._standing = standing
        self._setbacks = setbacks
        # Seconds of the latest.
        self.took_s = 0.0

    async def book(self, descent: Descent) -> Reservation | None:
        """Memory for one of the ways that are left; None: there is none, and those who wait know,
        or nobody waits."""
        self._standing.enter(ModelState.QUEUED)
        around, needs = self._around, [rung.need.total for rung in descent.rungs]
        try:
            reservation = await first_of(
                around.admission.reserve(self._owner, needs),
                self._owner.until_unwanted(),
                around.clock.sleep(around.policy.queue_wait_s),
            )
        except ServingError as error:
            if descent.error is not None:
                # Why it failed says more than that a smaller one does not fit either.
                self.failed(descent.error)
            else:
                self._refused(error)
            return None
        if reservation is None and self._owner.wanted():
            self._room.refuse(self._waited_too_long)
        return reservation

    async def bring_up(self, descent: Descent, reservation: Reservation) -> LoadedModel | None:
        """Load in the way that was booked; None: it failed, which `descent` and those who wait
        know, or nobody waits."""
        around, rung = self._around, descent.take(reservation.rung)
        self._standing.enter(ModelState.RESERVED)
        began_s = around.clock.monotonic()
        try:
            loaded = await first_of(
                bring_up(
                    rung,
                    around.launcher,
                    around.policy,
                    around.clock,
                    self._standing.on_progress,
                    lambda pid: around.admission.begin(reservation, pid),
                ),
                self._owner.until_unwanted(),
                load_limit(rung.entry, around.policy, around.clock, descent.left_s()),
            )
        except ServingError as error:
            failure = self._explained(error, rung)
            if descent.failed(failure):
                log.warning("model %s: %s: trying to load it smaller", rung.entry.id, failure)
            else:
                self.failed(failure)
            return None
        if loaded is None:
            model = self._owner.name
            log.info("nobody waits for model %s any more: its load is abandoned", model)
            return None
        self._succeeded(loaded, around.clock.monotonic() - began_s)
        return loaded

    def failed(self, error: ServingError) -> None:
        """Those who wait, and who comes too soon after them, will be told."""
        log.warning("model %s could not be loaded: %s", self._owner.name, error)
        self._standing.counters.load_failures += 1
        now_s = self._around.clock.monotonic()
        self._setbacks.load_failed(self._with_backend(error), now_s)

    def _succeeded(self, loaded: LoadedModel, took_s: float) -> None:
        self.took_s = took_s
        self._standing.counters.loads += 1
        self._standing.counters.load_seconds_sum += took_s
        model, pid = loaded.entry.id, loaded.engine.pid
        log.info("model %s is loaded (%.1f s, pid %d)", model, took_s, pid)
        if loaded.rung.reductions:
            reductions = "; ".join(loaded.rung.reductions)
            log.warning("model %s is reduced: %s", self._owner.name, reductions)

    def _explained(self, error: ServingError, rung: Rung) -> ServingError:
        if not is_out_of_memory(error):
            return error
        available_bytes = self._around.probe.machine().available_bytes
        others = self._around.admission.holders(without=self._owner)
        return with_arithmetic(error, rung.need.total, available_bytes, others)

    def _waited_too_long(self) -> Overloaded:
        wait_s = self._around.policy.queue_wait_s
        if self._around.admission.is_held_back:
            why = "programs of this machine wait for memory, so that no model is loaded"
        else:
            why = "other models are in use and hold the memory"
        return Overloaded(f"{why} for more than {wait_s:.0f} s", retry_after_s=wait_s)

    def _refused(self, error: ServingError) -> None:
        """It was not tried, so nothing speaks against trying at the next request."""
        fitting = (f"use the model {model}" for model in self._around.instead(self._owner.entry))
        error.suggestions = (*error.suggestions, *fitting)
        log.warning("model %s is not loaded: %s", self._owner.name, error)
        self._standing.counters.load_failures += 1
        refused = PipeError.of(self._with_backend(error))
        self._room.refuse(refused.error)

    def _with_backend(self, error: ServingError) -> ServingError:
        if isinstance(error, BackendLoadFailed):
            error.metadata = {"backend": self._owner.entry.backend} | error.metadata
        return error
