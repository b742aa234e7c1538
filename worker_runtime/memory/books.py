"""What this machine's memory is reserved for, and what would fit beside it.

The books of one worker: its own reservations, and those of the others as the ledger last showed
them. Who gets memory, and who gives it up, is decided in `admission.py`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import msgspec

from worker_runtime.memory.budget import Claim, MemoryBudget, default_headroom_bytes
from worker_runtime.memory.insufficient import Holder
from worker_runtime.memory.ledger import Ledger, LedgerEntry, LedgerPage
from worker_runtime.memory.probe import MachineMemory, MemoryProbe
from worker_runtime.memory.reservation import Holdings, Reservation, Tenant
from worker_runtime.policy import LifecyclePolicy

TOLD_STEP_BYTES = 16 << 20


class MemoryBooks:
    """
    Args:
        ledger: where the workers of a machine tell each other what they hold.
        standby_pid: the process that waits for a model, 0 if none does.
    """

    def __init__(
        self,
        policy: LifecyclePolicy,
        probe: MemoryProbe,
        ledger: Ledger,
        standby_pid: Callable[[], int] = lambda: 0,
    ) -> None:
        self._policy = policy
        self._standby_pid = standby_pid
        self._probe = probe
        self._ledger = ledger
        self.held: list[Reservation] = []
        # The other workers' ledger pages as they were when the ledger was last open.
        self._others: tuple[LedgerPage, ...] = ()

    @contextlib.contextmanager
    def ledger_open(self) -> Iterator[None]:
        """Nobody else reserves memory meanwhile, and what others hold is known anew."""
        with self._ledger.open() as self._others:
            yield

    @property
    def booked_bytes(self) -> int:
        return sum(reservation.need_bytes for reservation in self.held)

    def reserved_by(self, tenant: Tenant) -> int:
        return sum(r.need_bytes for r in self.held if r.tenant is tenant)

    def holders(self, without: Tenant | None = None) -> list[Holder]:
        """The models that hold memory now, except `without`."""
        return [
            Holder(r.tenant.name, r.need_bytes, r.tenant.is_pinned)
            for r in self.held
            if r.tenant is not without
        ]

    def holdings(self, machine: MachineMemory) -> Holdings:
        """What is reserved on this machine, and the limits.

        Args:
            machine: a recent reading; the default headroom depends on its total size.
        """
        others = sum(entry.booked_bytes for page in self._others for entry in page.entries)
        headroom = self._headroom_bytes(machine)
        return Holdings(self.booked_bytes, self._policy.memory_limit_bytes, others, headroom)

    @property
    def others_want(self) -> bool:
        """Whether another worker lacks memory."""
        return any(page.wanted_bytes for page in self._others)

    def others_lack_bytes(self) -> int:
        """What other workers lack and this one could give them."""
        return sum(
            page.wanted_bytes if self._is_here(page) else page.machine_wanted_bytes
            for page in self._others
        )

    def write(self, wanted_bytes: int = 0, machine_wanted_bytes: int = 0) -> None:
        """Tell the others what is held here, and what is missing."""
        entries = tuple(
            LedgerEntry(r.tenant.name, r.need_bytes, r.pid, self._told_bytes(r.pid))
            for r in self.held
        )
        self._ledger.write(entries, wanted_bytes, machine_wanted_bytes)

    def first_fit(self, needs: Sequence[int], budget: MemoryBudget) -> int | None:
        """The index of the first need that would fit if every model that may be evicted, also those
        of other workers, were gone."""
        going = [r for r in self.held if not r.tenant.is_pinned]
        staying = [r for r in self.held if r.tenant.is_pinned]
        if self._policy.max_loaded and len(staying) >= self._policy.max_loaded:
            return None
        gone = (*map(self._claim, going), *(Claim(r.spare_bytes) for r in staying))
        return next(
            (i for i, n in enumerate(needs) if budget.fits(n, gone, without_others=True)), None
        )

    def would_fit(self, need: int, budget: MemoryBudget, gone: Sequence[Reservation] = ()) -> bool:
        """Whether `need` fits once the models of `gone` are."""
        most = self._policy.max_loaded
        if most and len(self.held) - len(gone) >= most:
            return False
        return budget.fits(need, tuple(map(self._claim, gone)))

    def free_when_left(self, budget: MemoryBudget) -> int | None:
        """Bytes that are free once the models that leave are gone; None: without a limit."""
        return budget.free_bytes(self._going())

    def missing_bytes(self, needs: Sequence[int]) -> tuple[int, int]:
        """Bytes that are missing even after the present evictions: here, and of the machine."""
        budget = msgspec.structs.replace(self.budget(), limit_bytes=None)
        need = needs[self.first_fit(needs, budget) or 0]
        going = self._going()
        free, of_machine = budget.free_bytes(going), budget.machine_free_bytes(going)
        return (
            0 if free is None else max(need - free, 0),
            0 if of_machine is None else max(need - of_machine, 0),
        )

    def idle(self) -> list[Reservation]:
        """Those that may be evicted at once, the first to go first."""
        idle = [r for r in self.held if not r.leaving and r.tenant.can_evict()]
        return sorted(idle, key=_first_to_go)

    def yielding(self) -> list[Reservation]:
        """Those in use that have had their turn, the first to go first."""
        busy = [
            r
            for r in self.held
            if not r.leaving and r.tenant.can_yield() and not r.tenant.can_evict()
        ]
        return sorted(busy, key=_first_to_go)

    def budget(self, standby_bytes: int | None = None) -> MemoryBudget:
        """What there is now, by a new reading of the machine.

        Args:
            standby_bytes: what becomes available of the standby's memory; None: all of it.
        """
        machine = self._probe.machine()
        if standby_bytes is None:
            standby_bytes = self._taken_bytes(self._standby_pid())
        available, of_machine = machine.available_bytes, machine.machine_bytes
        return MemoryBudget(
            available_bytes=available + standby_bytes if self._policy.memory_check else None,
            headroom_bytes=self._headroom_bytes(machine),
            limit_bytes=self._policy.memory_limit_bytes,
            claims=tuple(map(self._claim, self.held)),
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
            machine_bytes=None if of_machine is None else of_machine + standby_bytes,
        )

    def _going(self) -> tuple[Claim, ...]:
        return tuple(self._claim(r) for r in self.held if r.leaving)

    def _is_here(self, page: LedgerPage) -> bool:
        return page.place == self._ledger.place

    def _claim(self, reservation: Reservation) -> Claim:
        return Claim(reservation.need_bytes, self._taken_bytes(reservation.pid))

    def _taken_bytes(self, pid: int) -> int:
        return self._probe.process(pid).anonymous_bytes if pid else 0

    def _told_bytes(self, pid: int) -> int:
        """In steps, so that the page is not written for every byte."""
        return self._taken_bytes(pid) // TOLD_STEP_BYTES * TOLD_STEP_BYTES

    def _headroom_bytes(self, machine: MachineMemory) -> int:
        if self._policy.min_remain_bytes is not None:
            return self._policy.min_remain_bytes
        if machine.headroom_bytes is not None:
            return machine.headroom_bytes
        return default_headroom_bytes(machine.total_bytes)


def _first_to_go(reservation: Reservation) -> tuple[int, float]:
    return reservation.tenant.priority, reservation.tenant.last_used_s
