"""This worker's memory over time: what it holds, by kind, and how far the machine lacks memory.

It is sampled every few seconds while models are loaded, and at most once a second when status is
read. An idle worker is not woken.
"""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from worker_runtime.clock import Clock
from worker_runtime.memory.pressure import PressureGate, PressureState
from worker_runtime.memory.probe import MachineMemory, MemoryProbe

SAMPLE_S = 1.0
KEPT_EVERY_S = 5.0
TREND_S = 300.0
# Smaller changes of the mean do not count as a trend.
TREND_SHARE = 0.05

Trend = Literal["stable", "increasing", "decreasing"]


class EngineMemory(msgspec.Struct, frozen=True):
    """Memory of one engine process, taken from its model's snapshot.

    Args:
        n_requests: requests since the model was loaded.
    """

    pid: int
    anonymous_bytes: int
    mapped_bytes: int
    is_idle: bool
    n_requests: int


class MemoryReading(msgspec.Struct, frozen=True):
    """The memory of a worker and its engine processes at one moment, in bytes.

    Args:
        worker_bytes: with the process that waits for a model.
    """

    machine: MachineMemory
    worker_bytes: int
    engines_bytes: int
    # Of the worker and all its engine processes.
    anonymous_bytes: int
    mapped_bytes: int
    trend: Trend
    leaking_pids: frozenset[int]
    pressure: PressureState
    # Shares of ten seconds in which some programs, or all, waited for memory.
    stalled_some: float
    stalled_full: float

    @property
    def leak_detected(self) -> bool:
        return bool(self.leaking_pids)


class MemoryMonitor:
    """Samples the memory of a worker and its engine processes.

    Args:
        standby_pid: the process that waits for a model; 0 if none does.
    """

    def __init__(
        self, probe: MemoryProbe, clock: Clock, standby_pid: Callable[[], int] = lambda: 0
    ) -> None:
        self.gate = PressureGate(clock)
        self._probe = probe
        self._clock = clock
        self._standby_pid = standby_pid
        # Time of a sample, and anonymous bytes of the worker and its engine processes.
        self._history: deque[tuple[float, int]] = deque(maxlen=int(TREND_S / KEPT_EVERY_S))
        self._floors: dict[int, Floors] = {}
        self._latest: MemoryReading | None = None
        self._sampled_at_s = 0.0

    def reading(self, engines: Iterable[EngineMemory]) -> MemoryReading:
        """Memory now, or a reading that is less than `SAMPLE_S` seconds old."""
        now_s = self._clock.monotonic()
        if self._latest is None or now_s - self._sampled_at_s >= SAMPLE_S:
            self._sampled_at_s = now_s
            self._latest = self._sample(list(engines), now_s)
        return self._latest

    def _sample(self, engines: list[EngineMemory], now_s: float) -> MemoryReading:
        own, waiting = self._probe.process(os.getpid()), self._standby_pid()
        anonymous = sum(engine.anonymous_bytes for engine in engines)
        mapped = sum(engine.mapped_bytes for engine in engines)
        if not self._history or now_s - self._history[-1][0] >= KEPT_EVERY_S:
            self._history.append((now_s, own.anonymous_bytes + anonymous))
        self.gate.note(self._probe.stall())
        self._note_floors(engines)
        return MemoryReading(
            machine=self._probe.machine(),
            worker_bytes=own.resident_bytes
            + (self._probe.resident_bytes(waiting) if waiting else 0),
            engines_bytes=anonymous + mapped,
            anonymous_bytes=own.anonymous_bytes + anonymous,
            mapped_bytes=own.mapped_bytes + mapped,
            trend=self._trend(now_s),
            leaking_pids=frozenset(p for p, floors in self._floors.items() if floors.is_leaking),
            pressure=self.gate.state,
            stalled_some=self.gate.stall.some,
            stalled_full=self.gate.stall.full,
        )

    def _note_floors(self, engines: list[EngineMemory]) -> None:
        pids = {engine.pid for engine in engines}
        self._floors = {pid: floors for pid, floors in self._floors.items() if pid in pids}
        for engine in engines:
            floors = self._floors.setdefault(engine.pid, Floors())
            if engine.is_idle:
                floors.note(engine.anonymous_bytes, engine.n_requests)

    def _trend(self, now_s: float) -> Trend:
        used = [n_bytes for at_s, n_bytes in self._history if now_s - at_s <= TREND_S]
        third = len(used) // 3
        if third == 0:
            return "stable"
        before, after = sum(used[:third]), sum(used[-third:])
        if abs(after - before) <= before * TREND_SHARE:
            return "stable"
        return "increasing" if after > before else "decreasing"


# Requests between two measured floors, so that the rounds do equal work.
ROUND_REQUESTS = 16
# The first rounds fill caches and the allocators' pools, so they do not count.
WARM_UP_ROUNDS = 2
GROWING_ROUNDS = 5
LEAK_SHARE = 0.1
LEAK_BYTES = 64 << 20


class Floors:
    """The lowest memory of one process in each round; a steady rise is a leak."""

    def __init__(self) -> None:
        self._floors: deque[int] = deque(maxlen=GROWING_ROUNDS)
        self._at_request = 0
        self._n_rounds = 0

    def note(self, anonymous_bytes: int, n_requests: int) -> None:
        """Record what the process holds while idle, after `n_requests` since it was loaded."""
        if n_requests - self._at_request < ROUND_REQUESTS:
            return
        self._at_request = n_requests
        self._n_rounds += 1
        if self._n_rounds > WARM_UP_ROUNDS:
            self._floors.append(anonymous_bytes)

    @property
    def is_leaking(self) -> bool:
        floors = list(self._floors)
        if len(floors) < GROWING_ROUNDS:
            return False
        growth = floors[-1] - floors[0]
        grows = all(later > earlier for earlier, later in itertools.pairwise(floors))
        return grows and growth >= max(floors[0] * LEAK_SHARE, LEAK_BYTES)
