"""Admits loads: reserves memory for a model before it loads, and evicts other models for it.

Requests for memory are served first come, first served, so that small models cannot starve a big
one. Idle models are evicted at once, those with the lowest priority first, and of these the least
recently used. A model in use may be evicted after its minimum time: it finishes the requests that
it has begun. Each decision is synchronous and sees one consistent state of this worker and, through
the ledger, of the other workers (`books.py`).

Spare memory (`spare.py`) is taken back before any model is evicted.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from worker_runtime.aio import Changes, first_of
from worker_runtime.clock import Clock
from worker_runtime.memory.books import MemoryBooks
from worker_runtime.memory.budget import MemoryBudget
from worker_runtime.memory.insufficient import insufficient_memory
from worker_runtime.memory.ledger import Ledger
from worker_runtime.memory.pressure import PressureGate
from worker_runtime.memory.probe import MemoryProbe
from worker_runtime.memory.reservation import Reservation, Tenant
from worker_runtime.memory.spare import grant_again, spare_of, take_back
from worker_runtime.policy import LifecyclePolicy

# How often a waiting request is checked again: other programs and workers change without notice.
POLL_S = 1.0
# How long a process may take to free memory that was taken back, before models are evicted instead.
RETURN_S = 3.0


class _Request(msgspec.Struct):
    tenant: Tenant
    needs: Sequence[int]
    spares: Sequence[int]
    admitted: asyncio.Future[Reservation]
    # It is admitted also if it seems not to fit.
    forced: bool = False
    reservation: Reservation | None = None


class MemoryAdmission:
    """Decides for one worker which loads get memory, and which models are evicted for them.

    Args:
        standby_pid: the process that waits for a model, 0 if none does. Its memory is free for
            loads, which take the process over or end it.
    """

    def __init__(
        self,
        policy: LifecyclePolicy,
        probe: MemoryProbe,
        ledger: Ledger,
        clock: Clock,
        gate: PressureGate,
        standby_pid: Callable[[], int] = lambda: 0,
    ) -> None:
        # What is reserved, here and by other workers; only this class changes it.
        self.books = MemoryBooks(policy, probe, ledger, standby_pid)
        self._probe = probe
        self._clock = clock
        self._gate = gate
        self._requests: list[_Request] = []
        self._reservations = Changes()
        # Until then memory may come back that was taken from caches.
        self._returned_at_s = float("-inf")

    @property
    def n_waiting(self) -> int:
        return len(self._requests)

    @property
    def is_held_back(self) -> bool:
        """Whether loads are paused because programs of this machine wait for memory."""
        return not self._gate.may_load

    def could_fit(self, need_bytes: int) -> bool:
        """Whether `need_bytes` would fit if every model that may be evicted were gone."""
        return self.books.first_fit([need_bytes], self.books.budget()) is not None

    async def reserve(
        self,
        tenant: Tenant,
        needs: Sequence[int],
        spares: Sequence[int] = (),
        *,
        forced: bool = False,
    ) -> Reservation:
        """Wait until memory is free and reserve it. Cancelling leaves the queue.

        Args:
            needs: bytes of each load option, the preferred one first. The first option that can
                ever fit is reserved: to wait for other models is better than to load a smaller
                option.
            spares: bytes beyond each need that are reserved too as far as memory is free.
            forced: where no option can fit, reserve the first one as soon as no model is left that
                may be evicted.
        Raises:
            BackendLoadFailed: no option can fit, even if every other model is evicted.
        """
        admitted: asyncio.Future[Reservation] = asyncio.get_running_loop().create_future()
        # `reserve` awaits the future. If it was cancelled, nobody needs the error any more.
        admitted.add_done_callback(lambda done: done.exception())
        request = _Request(tenant, needs, spares or [0] * len(needs), admitted, forced)
        self._requests.append(request)
        self._reservations.notify()
        try:
            self.settle()
            while not admitted.done():
                await first_of(asyncio.wait({admitted}), self._clock.sleep(POLL_S))
                self.settle()
            return admitted.result()
        except asyncio.CancelledError:
            # The admission may have happened in the same step of the event loop.
            if request.reservation is not None:
                self.release(request.reservation)
            raise
        finally:
            if request in self._requests:
                self._requests.remove(request)
                self.settle()

    def reserve_free(self, tenant: Tenant, need_bytes: int) -> Reservation | None:
        """Reserve memory that nobody lacks, without a wait or an eviction; None if there is not
        enough."""
        if self._requests or not self._gate.may_load:
            return None
        with self.books.ledger_open():
            books = self.books
            if books.others_want or not books.would_fit(need_bytes, books.budget()):
                return None
            reservation = Reservation(tenant, need_bytes)
            self.books.held.append(reservation)
            books.write()
        self._reservations.notify()
        return reservation

    def can_spare(self, n_bytes: int) -> bool:
        """Whether nobody lacks memory, and `n_bytes` are free beside the standby."""
        self._gate.note(self._probe.stall())
        with self.books.ledger_open():
            fits = self.books.budget(standby_bytes=0).fits(n_bytes)
            return fits and self._gate.may_load and not self.books.others_want

    def begin(self, reservation: Reservation, pid: int) -> None:
        """Record that process `pid` begins to take the reserved memory."""
        reservation.pid = pid
        self.settle()

    def keep(self, reservation: Reservation, need_bytes: int) -> None:
        """Of what was reserved for a load no more than `need_bytes` is needed from now on."""
        reservation.need_bytes = min(reservation.need_bytes, need_bytes)
        self.settle()

    def release(self, reservation: Reservation) -> None:
        self.books.held.remove(reservation)
        self.settle()

    def settle(self) -> None:
        """Admit the requests that fit, and evict models for the first that does not.

        To be called when a model became idle or when free memory may have changed.
        """
        if not self._requests:
            self.books.write()
            return
        # The pressure may have changed since it was last read.
        self._gate.note(self._probe.stall())
        with self.books.ledger_open():
            self._refuse_hopeless()
            while self._requests and self._admit(self._requests[0]):
                pass
            self.books.write(
                *(self.books.missing_bytes(self._requests[0].needs) if self._requests else ())
            )

    async def until_in_use(self) -> None:
        """Return when a model holds memory or requests it."""
        await self._reservations.until(lambda: bool(self.books.held or self._requests))

    def give_back(self) -> None:
        """Free caches, then evict idle models, for other workers that lack memory; under full
        memory pressure, those of one model at a time. Caches get free memory again."""
        with self.books.ledger_open():
            missing_bytes = self.books.others_lack_bytes()
            if not missing_bytes and not self._requests and self._gate.may_load:
                grant_again(self.books.held, self.books.budget().free_bytes())
                self.books.write()
        if self._gate.take_turn():
            missing_bytes = max(missing_bytes, 1)
        missing_bytes -= sum(r.need_bytes for r in self.books.held if r.leaving)
        returned_bytes = take_back(self.books.held, missing_bytes)
        if returned_bytes:
            missing_bytes -= returned_bytes
            self.settle()
        for reservation in self.books.idle():
            if missing_bytes <= 0:
                break
            missing_bytes -= reservation.need_bytes
            self._evict(reservation)

    def _refuse_hopeless(self) -> None:
        budget = self.books.budget()
        for request in list(self._requests):
            if not request.forced and self.books.first_fit(request.needs, budget) is None:
                self._requests.remove(request)
                if not request.admitted.done():
                    capability = request.tenant.capability
                    refused = insufficient_memory(
                        budget, request.needs, self.books.holders(), capability
                    )
                    request.admitted.set_exception(refused)

    def _admit(self, request: _Request) -> bool:
        """Reserve the memory if it is free; else evict models for it. Returns whether it fitted."""
        budget = self.books.budget()
        option = self.books.first_fit(request.needs, budget)
        if not self._gate.may_load:
            return False
        if option is None:
            assert request.forced, "hopeless requests were refused"
            return self._admit_forced(request)
        need = request.needs[option]
        if not self.books.would_fit(need, budget) and self._take_back_for(need, budget):
            budget = self.books.budget()
        if not self.books.would_fit(need, budget):
            if self._clock.monotonic() >= self._returned_at_s:
                self._evict_for(need, budget)
            return False
        wanted = request.spares[option]
        free = budget.free_bytes()
        spare = spare_of(None if free is None else free - need, wanted)
        self._grant(
            request,
            Reservation(
                request.tenant, need + spare, option, spare_bytes=spare, wanted_spare_bytes=wanted
            ),
        )
        return True

    def _admit_forced(self, request: _Request) -> bool:
        """Reserve more than there is, once all models that may be evicted are gone."""
        for reservation in self.books.idle():
            self._evict(reservation)
        if any(reservation.leaving for reservation in self.books.held):
            return False
        self._grant(request, Reservation(request.tenant, request.needs[0]))
        return True

    def _grant(self, request: _Request, reservation: Reservation) -> None:
        self._requests.remove(request)
        if not request.admitted.done():
            request.reservation = reservation
            self.books.held.append(reservation)
            self._reservations.notify()
            request.admitted.set_result(reservation)

    def _take_back_for(self, need: int, budget: MemoryBudget) -> bool:
        """Take as much spare memory as `need` lacks; whether there was any."""
        free = self.books.free_when_left(budget)
        if free is None or not take_back(self.books.held, need - free):
            return False
        self._returned_at_s = self._clock.monotonic() + RETURN_S
        return True

    def _evict_for(self, need: int, budget: MemoryBudget) -> None:
        """Evict the least recently used models until `need` fits; none if that is not enough."""
        going = [r for r in self.books.held if r.leaving]
        chosen: list[Reservation] = []
        for reservation in (*self.books.idle(), *self.books.yielding()):
            if self.books.would_fit(need, budget, [*going, *chosen]):
                break
            chosen.append(reservation)
        if self.books.would_fit(need, budget, [*going, *chosen]):
            for reservation in chosen:
                self._evict(reservation)

    def _evict(self, reservation: Reservation) -> None:
        reservation.leaving = True
        reservation.tenant.evict()
