"""A machine on which two workers and other programs share memory, all in the test's hands."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from tests.unit.worker_runtime.fakes import FakeClock, FakeEngine
from worker_runtime.aio import first_of
from worker_runtime.catalog import ModelEntry
from worker_runtime.engine_process.interface import ExitReport
from worker_runtime.memory.ledger import LedgerEntry, LedgerPage
from worker_runtime.memory.pressure import Stall
from worker_runtime.memory.probe import MachineMemory, ProcessMemory

GIB = 1 << 30
TOTAL_BYTES = 12 * GIB
HEADROOM_BYTES = 1 * GIB


class FakeMachine:
    """Its memory, its processes, and its ledger; a `MemoryProbe`."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.others_bytes = 2 * GIB
        self.engines: list[MachineEngine] = []
        # What each worker has written into the ledger, by its number.
        self.pages: dict[int, LedgerPage] = {}
        self.stalled = Stall()
        # What went wrong where an exception would be taken for a worker's own.
        self.faults: list[str] = []

    @property
    def alive(self) -> list["MachineEngine"]:
        return [engine for engine in self.engines if engine.exit is None]

    def machine(self) -> MachineMemory:
        taken = sum(engine.taken_bytes for engine in self.alive)
        return MachineMemory(TOTAL_BYTES, max(TOTAL_BYTES - self.others_bytes - taken, 0))

    def process(self, pid: int) -> ProcessMemory:
        return ProcessMemory(sum(e.taken_bytes for e in self.alive if e.pid == pid))

    def resident_bytes(self, pid: int) -> int:
        return self.process(pid).resident_bytes

    def stall(self) -> Stall:
        return self.stalled

    def entries(self) -> list[LedgerEntry]:
        return [entry for page in self.pages.values() for entry in page.entries]

    def unpromised_bytes(self) -> int:
        """What would be left if every model took all that is booked for it."""
        booked = {entry.pid: entry.booked_bytes for entry in self.entries() if entry.pid}
        held = sum(max(e.taken_bytes, booked.pop(e.pid, 0)) for e in self.alive)
        unborn = sum(entry.booked_bytes for entry in self.entries() if not entry.pid)
        return TOTAL_BYTES - self.others_bytes - held - unborn - sum(booked.values())


class MachineLedger:
    """One worker's way to the machine's ledger; tells when bytes are booked that are not there."""

    place = ""

    def __init__(self, machine: FakeMachine, worker: int) -> None:
        self._machine = machine
        self._worker = worker
        self._is_open = False

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[LedgerPage, ...]]:
        if self._is_open:
            self._machine.faults.append("the ledger is opened while it is open")
        self._is_open = True
        try:
            pages = self._machine.pages.items()
            yield tuple(page for worker, page in pages if worker != self._worker)
        finally:
            self._is_open = False

    def write(
        self, entries: tuple[LedgerEntry, ...], wanted_bytes: int, machine_wanted_bytes: int
    ) -> None:
        before = self._machine.pages.get(self._worker, LedgerPage(""))
        page = LedgerPage("", entries, wanted_bytes, machine_wanted_bytes)
        self._machine.pages[self._worker] = page
        is_new = {entry.model for entry in entries} - {entry.model for entry in before.entries}
        if is_new and self._machine.unpromised_bytes() < HEADROOM_BYTES:
            self._machine.faults.append(f"memory was booked that is not there: {entries}")


Asked = Callable[["MachineEngine"], bool]


class MachineLauncher:
    """
    Args:
        may_stop, is_in_use: whether an engine may be ended now, and whether somebody has a lease
            on it, for the machine's faults.
    """

    def __init__(self, machine: FakeMachine, may_stop: Asked, is_in_use: Asked) -> None:
        self._machine = machine
        self._asked = (may_stop, is_in_use)
        self.start_error: OSError | None = None

    async def start(self, entry: ModelEntry) -> "MachineEngine":
        await asyncio.sleep(0)
        if self.start_error is not None:
            raise self.start_error
        engine = MachineEngine(len(self._machine.engines) + 1, entry, self._machine, *self._asked)
        self._machine.engines.append(engine)
        return engine


class MachineEngine(FakeEngine):
    """Takes memory as it loads, its entry's size in all; insists as real ones do when stopped."""

    def __init__(
        self,
        pid: int,
        entry: ModelEntry,
        machine: FakeMachine,
        may_stop: Asked,
        is_in_use: Asked,
    ) -> None:
        super().__init__(pid, entry)
        self.taken_bytes = 0
        self._machine = machine
        self._may_stop = may_stop
        self._is_in_use = is_in_use

    def progress(self, fraction: float) -> None:
        self.taken_bytes = int(self.entry.size_bytes * fraction)
        self.on_progress(fraction, "reading weights")

    def finish_load(self) -> None:
        self.taken_bytes = self.entry.size_bytes
        super().finish_load()

    def shed(self) -> None:
        super().shed()
        if self._is_in_use(self):
            self._machine.faults.append(f"{self.entry.id} was to drop what it works with")

    def limit_caches(self, max_bytes: int) -> None:
        """Its caches fill at once, and are freed at once."""
        self.taken_bytes += max_bytes - self.caches_bytes
        super().limit_caches(max_bytes)

    async def stop(self, grace_s: float) -> ExitReport:
        self.n_stops += 1
        self._note_stop()
        if self.ignores_stop:
            await first_of(self.wait(), self._machine.clock.sleep(2 * grace_s))
        self.die("", wanted=True)
        return await self.wait()

    def kill(self) -> None:
        self._note_stop()
        super().kill()

    def _note_stop(self) -> None:
        if self.exit is None and not self._may_stop(self):
            self._machine.faults.append(f"{self.entry.id} was ended in the middle of its work")
