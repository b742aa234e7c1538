"""Time, memory and engine processes for tests of the lifecycle, all in the test's hands."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncGenerator

import msgspec

from common.errors import WorkerLost
from worker_runtime.catalog import ModelEntry
from worker_runtime.engine_process import protocol
from worker_runtime.engine_process.interface import ExitReport, OnProgress
from worker_runtime.memory.pressure import Stall
from worker_runtime.memory.probe import MachineMemory, ProcessMemory

RESIDENT_BYTES = 100 << 20
MAX_STEPS = 2000


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self.now_s

    def time(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        if delay_s <= 0:
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now_s + delay_s, next(self._order), woken))
        await woken

    async def tick(self, delta_s: float) -> None:
        """Let `delta_s` pass, waking each sleeper at its own time."""
        until = self.now_s + delta_s
        while self._sleepers and self._sleepers[0][0] <= until:
            self.now_s, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
                await settle()
        self.now_s = until
        await settle()


class FakeProbe:
    def __init__(self, available_bytes: int = 8 << 30) -> None:
        self.available_bytes = available_bytes
        self.stalled = Stall()

    def machine(self) -> MachineMemory:
        return MachineMemory(16 << 30, self.available_bytes)

    def resident_bytes(self, pid: int) -> int:
        return RESIDENT_BYTES

    def process(self, pid: int) -> ProcessMemory:
        return ProcessMemory(RESIDENT_BYTES)

    def stall(self) -> Stall:
        return self.stalled


class FakeEngine:
    """An engine process whose load ends when the test says so."""

    def __init__(self, pid: int, entry: ModelEntry) -> None:
        self.entry = entry
        self.pid_number = pid
        self.on_progress: OnProgress = lambda fraction, stage: None
        self.loading: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self.loading.add_done_callback(lambda f: f.cancelled() or f.exception())
        self.ended: asyncio.Future[ExitReport] = asyncio.get_running_loop().create_future()
        self.ignores_stop = False
        self.n_stops = 0
        self.n_sheds = 0
        self.caches_bytes = 0

    @property
    def pid(self) -> int:
        return self.pid_number

    @property
    def exit(self) -> ExitReport | None:
        return self.ended.result() if self.ended.done() else None

    def finish_load(self) -> None:
        self.loading.set_result(protocol.raw({"model": self.entry.id}))

    def fail_load(self, error: Exception) -> None:
        self.loading.set_exception(error)

    def die(self, signal_name: str = "SIGKILL", *, wanted: bool = False) -> None:
        if not self.ended.done():
            self.ended.set_result(ExitReport(-9, signal_name, wanted))
            if not self.loading.done():
                self.loading.set_exception(WorkerLost("the model's process died"))

    async def call(self, body: msgspec.Struct) -> AsyncGenerator[msgspec.Raw, None]:
        yield protocol.raw(body)

    async def call_batches(self, body: msgspec.Struct) -> AsyncGenerator[list[msgspec.Raw], None]:
        yield [protocol.raw(body)]

    async def unary(self, body: msgspec.Struct) -> msgspec.Raw:
        return protocol.raw(body)

    async def load(self, spec: msgspec.Raw, on_progress: OnProgress) -> msgspec.Raw:
        self.on_progress = on_progress
        return await asyncio.shield(self.loading)

    def shed(self) -> None:
        self.n_sheds += 1

    def limit_caches(self, max_bytes: int) -> None:
        self.caches_bytes = max_bytes

    async def stop(self, grace_s: float) -> ExitReport:
        self.n_stops += 1
        if not self.ignores_stop:
            self.die("", wanted=True)
        return await self.wait()

    def kill(self) -> None:
        self.die(wanted=True)

    async def wait(self) -> ExitReport:
        return await asyncio.shield(self.ended)

    def resident_bytes(self) -> int:
        return 0 if self.ended.done() else RESIDENT_BYTES


class FakeLauncher:
    """Keeps every engine it started, oldest first.

    Args:
        auto: loads succeed by themselves.
    """

    def __init__(self, *, auto: bool = True) -> None:
        self.auto = auto
        self.engines: list[FakeEngine] = []
        self.start_error: OSError | None = None

    async def start(self, entry: ModelEntry) -> FakeEngine:
        if self.start_error is not None:
            raise self.start_error
        engine = FakeEngine(len(self.engines) + 1, entry)
        self.engines.append(engine)
        if self.auto:
            engine.finish_load()
        return engine

    @property
    def latest(self) -> FakeEngine:
        return self.engines[-1]

    @property
    def alive(self) -> list[FakeEngine]:
        return [engine for engine in self.engines if engine.exit is None]


async def settle() -> None:
    """Let every task run until all of them wait for something."""
    loop = asyncio.get_running_loop()
    ready = loop._ready  # type: ignore[attr-defined]  # noqa: SLF001 - no public name says it
    for _ in range(MAX_STEPS):
        await asyncio.sleep(0)
        if not ready:
            return
    raise AssertionError("the tasks keep each other busy")
