"""Admits loads: reserves memory for a model before it loads, and evicts other models for it.

Requests for memory are served first come, first served, so that small models cannot starve a big
one. Idle models are evicted at once, those with the lowest priority first, and of these the least
recently used. A model in use may be evicted
after its minimum time: it finishes the requests that it has begun. Each decision is synchronous
and sees one consistent state of this worker and, through the ledger, of the other workers.

Spare memory (`spare.py`) is taken back before any model is evicted.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from worker_runtime.aio import Changes, first_of
from worker_runtime.clock import Clock
from worker_runtime.memory.budget import Claim, MemoryBudget, default_headroom_bytes
from worker_runtime.memory.insufficient import Holder, insufficient_memory
from worker_runtime.memory.ledger import Ledger, LedgerEntry, LedgerPage
from worker_runtime.memory.pressure import PressureGate
from worker_runtime.memory.probe import MachineMemory, MemoryProbe
from worker_runtime.memory.reservation import Holdings, Reservation, Tenant
from worker_runtime.memory.spare import grant_again, spare_of, take_back
from worker_runtime.policy import LifecyclePolicy

# How often a waiting request is checked again: other programs and workers change without notice.
POLL_S = 1.0
# How long a process may take to free memory that was taken back, before models are evicted instead.
RETURN_S = 3.0
TOLD_STEP_BYTES = 16 << 20


class _Request(msgspec.Struct):
    tenant: Tenant
    needs: Sequence[int]
    spares: Sequence[int]
    admitted: asyncio.Future[Reservation]
    # It is admitted also if it seems not to fit.
    forced: bool = False
    reservation: Reservation | None = None


class MemoryAdmission:
    """Decides for one worker which loads get memory, and which models are evicted for them."""

    def __init__(
        self,
        policy: LifecyclePolicy,
        probe: MemoryProbe,
        ledger: Ledger,
        clock: Clock,
        gate: PressureGate,
    ) -> None:
        self._policy = policy
        self._probe = probe
        self._ledger = ledger
        self._clock = clock
        self._gate = gate
        self._held: list[Reservation] = []
        self._requests: list[_Request] = []
        self._reservations = Changes()
        # Until then memory may come back that was taken from caches.
        self._returned_at_s = float("-inf")
        # The other workers' ledger pages as they were when the ledger was last open.
        self._others: tuple[LedgerPage, ...] = ()

    @property
    def n_waiting(self) -> int:
        return len(self._requests)

    @property
    def n_held(self) -> int:
        return len(self._held)

    @property
    def is_held_back(self) -> bool:
        """Whether loads are paused because programs of this machine wait for memory."""
        return not self._gate.may_load

    @property
    def booked_bytes(self) -> int:
        return sum(reservation.need_bytes for reservation in self._held)

    def reserved_by(self, tenant: Tenant) -> int:
        return sum(r.need_bytes for r in self._held if r.tenant is tenant)

    def holders(self, without: Tenant | None = None) -> list[Holder]:
        """The models that hold memory now, except `without`."""
        return [
            Holder(r.tenant.name, r.need_bytes, r.tenant.is_pinned)
            for r in self._held
            if r.tenant is not without
        ]

    def could_fit(self, need_bytes: int) -> bool:
        """Whether `need_bytes` would fit if every model that may be evicted were gone."""
        return self._first_fit([need_bytes], self._budget()) is not None

    def holdings(self, machine: MachineMemory) -> Holdings:
        """What is reserved on this machine, and the limits.

        Args:
            machine: a recent reading; the default headroom depends on its total size.
        """
        others = sum(entry.booked_bytes for page in self._others for entry in page.entries)
        headroom = self._headroom_bytes(machine)
        return Holdings(self.booked_bytes, self._policy.memory_limit_bytes, others, headroom)

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
        with self._ledger.open() as self._others:
            is_wanted = any(page.wanted_bytes for page in self._others)
            if is_wanted or not self._would_fit(need_bytes, self._budget(), []):
                return None
            reservation = Reservation(tenant, need_bytes)
            self._held.append(reservation)
            self._write(0)
        self._reservations.notify()
        return reservation

    def begin(self, reservation: Reservation, pid: int) -> None:
        """Record that process `pid` begins to take the reserved memory."""
        reservation.pid = pid
        self.settle()

    def keep(self, reservation: Reservation, need_bytes: int) -> None:
        """Of what was reserved for a load no more than `need_bytes` is needed from now on."""
        reservation.need_bytes = min(reservation.need_bytes, need_bytes)
        self.settle()

    def release(self, reservation: Reservation) -> None:
        self._held.remove(reservation)
        self.settle()

    def settle(self) -> None:
        """Admit the requests that fit, and evict models for the first that does not.

        To be called when a model became idle or when free memory may have changed.
        """
        if not self._requests:
            self._write()
            return
        # The pressure may have changed since it was last read.
        self._gate.note(self._probe.stall())
        with self._ledger.open() as self._others:
            self._refuse_hopeless()
            while self._requests and self._admit(self._requests[0]):
                pass
            self._write(*(self._missing_bytes(self._requests[0]) if self._requests else ()))

    async def until_in_use(self) -> None:
        """Return when a model holds memory or requests it."""
        await self._reservations.until(lambda: bool(self._held or self._requests))

    def give_back(self) -> None:
        """Free caches, then evict idle models, for other workers that lack memory; under full
        memory pressure, those of one model at a time. Caches get free memory again."""
        with self._ledger.open() as self._others:
            missing_bytes = sum(
                page.wanted_bytes if self._is_here(page) else page.machine_wanted_bytes
                for page in self._others
            )
            if not missing_bytes and not self._requests and self._gate.may_load:
                grant_again(self._held, self._budget().free_bytes())
                self._write()
        if self._gate.take_turn():
            missing_bytes = max(missing_bytes, 1)
        missing_bytes -= sum(r.need_bytes for r in self._held if r.leaving)
        returned_bytes = take_back(self._held, missing_bytes)
        if returned_bytes:
            missing_bytes -= returned_bytes
            self.settle()
        for reservation in self._idle():
            if missing_bytes <= 0:
                break
            missing_bytes -= reservation.need_bytes
            self._evict(reservation)

    def _write(self, wanted_bytes: int = 0, machine_wanted_bytes: int = 0) -> None:
        entries = tuple(
            LedgerEntry(r.tenant.name, r.need_bytes, r.pid, self._told_bytes(r.pid))
            for r in self._held
        )
        self._ledger.write(entries, wanted_bytes, machine_wanted_bytes)

    def _is_here(self, page: LedgerPage) -> bool:
        return page.place == self._ledger.place

    def _refuse_hopeless(self) -> None:
        budget = self._budget()
        for request in list(self._requests):
            if not request.forced and self._first_fit(request.needs, budget) is None:
                self._requests.remove(request)
                if not request.admitted.done():
                    capability = request.tenant.capability
                    refused = insufficient_memory(budget, request.needs, self.holders(), capability)
                    request.admitted.set_exception(refused)

    def _first_fit(self, needs: Sequence[int], budget: MemoryBudget) -> int | None:
        """The index of the first need that would fit if every model that may be evicted, also those
        of other workers, were gone."""
        going = [r for r in self._held if not r.tenant.is_pinned]
        staying = [r for r in self._held if r.tenant.is_pinned]
        if self._policy.max_loaded and len(staying) >= self._policy.max_loaded:
            return None
        gone = (*map(self._claim, going), *(Claim(r.spare_bytes) for r in staying))
        return next(
            (i for i, n in enumerate(needs) if budget.fits(n, gone, without_others=True)), None
        )

    def _admit(self, request: _Request) -> bool:
        """Reserve the memory if it is free; else evict models for it. Returns whether it fitted."""
        budget = self._budget()
        option = self._first_fit(request.needs, budget)
        if not self._gate.may_load:
            return False
        if option is None:
            assert request.forced, "hopeless requests were refused"
            return self._admit_forced(request)
        need = request.needs[option]
        if not self._would_fit(need, budget, []) and self._take_back_for(need, budget):
            budget = self._budget()
        if not self._would_fit(need, budget, []):
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
        for reservation in self._idle():
            self._evict(reservation)
        if any(reservation.leaving for reservation in self._held):
            return False
        self._grant(request, Reservation(request.tenant, request.needs[0]))
        return True

    def _grant(self, request: _Request, reservation: Reservation) -> None:
        self._requests.remove(request)
        if not request.admitted.done():
            request.reservation = reservation
            self._held.append(reservation)
            self._reservations.notify()
            request.admitted.set_result(reservation)

    def _take_back_for(self, need: int, budget: MemoryBudget) -> bool:
        """Take as much spare memory as `need` lacks; whether there was any."""
        free = budget.free_bytes(tuple(self._claim(r) for r in self._held if r.leaving))
        if free is None or not take_back(self._held, need - free):
            return False
        self._returned_at_s = self._clock.monotonic() + RETURN_S
        return True

    def _missing_bytes(self, request: _Request) -> tuple[int, int]:
        """Bytes that are missing even after the present evictions: here, and of the machine."""
        budget = msgspec.structs.replace(self._budget(), limit_bytes=None)
        need = request.needs[self._first_fit(request.needs, budget) or 0]
        going = tuple(self._claim(r) for r in self._held if r.leaving)
        free, of_machine = budget.free_bytes(going), budget.machine_free_bytes(going)
        return (
            0 if free is None else max(need - free, 0),
            0 if of_machine is None else max(need - of_machine, 0),
        )

    def _evict_for(self, need: int, budget: MemoryBudget) -> None:
        """Evict the least recently used models until `need` fits; none if that is not enough."""
        going = [r for r in self._held if r.leaving]
        chosen: list[Reservation] = []
        for reservation in (*self._idle(), *self._yielding()):
            if self._would_fit(need, budget, [*going, *chosen]):
                break
            chosen.append(reservation)
        if self._would_fit(need, budget, [*going, *chosen]):
            for reservation in chosen:
                self._evict(reservation)

    def _would_fit(self, need: int, budget: MemoryBudget, gone: list[Reservation]) -> bool:
        most = self._policy.max_loaded
        if most and len(self._held) - len(gone) >= most:
            return False
        return budget.fits(need, tuple(map(self._claim, gone)))

    def _idle(self) -> list[Reservation]:
        idle = [r for r in self._held if not r.leaving and r.tenant.can_evict()]
        return sorted(idle, key=_first_to_go)

    def _yielding(self) -> list[Reservation]:
        busy = [
            r
            for r in self._held
            if not r.leaving and r.tenant.can_yield() and not r.tenant.can_evict()
        ]
        return sorted(busy, key=_first_to_go)

    def _evict(self, reservation: Reservation) -> None:
        reservation.leaving = True
        reservation.tenant.evict()

    def _claim(self, reservation: Reservation) -> Claim:
        return Claim(reservation.need_bytes, self._taken_bytes(reservation.pid))

    def _taken_bytes(self, pid: int) -> int:
        return self._probe.process(pid).anonymous_bytes if pid else 0

    def _told_bytes(self, pid: int) -> int:
        """In steps, so that the page is not written for every byte."""
        return self._taken_bytes(pid) // TOLD_STEP_BYTES * TOLD_STEP_BYTES

    def _budget(self) -> MemoryBudget:
        machine = self._probe.machine()
        return MemoryBudget(
            available_bytes=machine.available_bytes if self._policy.memory_check else None,
            headroom_bytes=self._headroom_bytes(machine),
            limit_bytes=self._policy.memory_limit_bytes,
            claims=tuple(map(self._claim, self._held)),
            others=tuple(
                Claim(entry.booked_bytes, self._taken_bytes(entry.pid))
                for page in self._others
                if self._is_here(page)
                for entry in page.entries
            ),
            container_bytes=machine.container_bytes,
            # Their processes cannot be measured from here.
            elsewhere=tuple(
                Claim(entry.booked_bytes, entry.taken_bytes)
                for page in self._others
                if not self._is_here(page)
                for entry in page.entries
            ),
            machine_bytes=machine.machine_bytes,
        )

    def _headroom_bytes(self, machine: MachineMemory) -> int:
        if self._policy.min_remain_bytes is not None:
            return self._policy.min_remain_bytes
        if machine.headroom_bytes is not None:
            return machine.headroom_bytes
        return default_headroom_bytes(machine.total_bytes)


def _first_to_go(reservation: Reservation) -> tuple[int, float]:
    return reservation.tenant.priority, reservation.tenant.last_used_s
