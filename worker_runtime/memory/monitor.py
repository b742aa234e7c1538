"""This worker's memory over time: sampled at most once a second, however many watch.

Nothing is sampled while nobody looks.
"""

import itertools
import os
from collections import deque
from typing import Literal

import msgspec

from worker_runtime.clock import Clock
from worker_runtime.memory.probe import MachineMemory, MemoryProbe

SAMPLE_S = 1.0
KEPT_EVERY_S = 5.0
TREND_S = 300.0
LEAK_S = 600.0
# A little fewer than the span holds, as samples come when somebody looks.
KEPT_SAMPLES = int(LEAK_S / KEPT_EVERY_S * 0.8)
# Smaller changes of the mean are noise.
TREND_SHARE = 0.05
LEAK_WINDOWS = 5
LEAK_SHARE = 0.1
LEAK_BYTES = 64 << 20

Trend = Literal["stable", "increasing", "decreasing"]


class MemoryReading(msgspec.Struct, frozen=True):
    machine: MachineMemory
    worker_bytes: int
    engines_bytes: int
    trend: Trend
    leak_detected: bool


class _Sample(msgspec.Struct, frozen=True):
    at_s: float
    used_bytes: int
    pids: frozenset[int]


class MemoryMonitor:
    def __init__(self, probe: MemoryProbe, clock: Clock) -> None:
        self._probe = probe
        self._clock = clock
        self._history: deque[_Sample] = deque(maxlen=KEPT_SAMPLES)
        self._latest: MemoryReading | None = None
        self._sampled_at_s = 0.0

    def reading(self, resident_by_pid: dict[int, int]) -> MemoryReading:
        """Memory now, or as it was less than `SAMPLE_S` ago.

        Args:
            resident_by_pid: of the engine processes.
        """
        now_s = self._clock.monotonic()
        if self._latest is not None and now_s - self._sampled_at_s < SAMPLE_S:
            return self._latest
        self._sampled_at_s = now_s
        worker, engines = self._probe.resident_bytes(os.getpid()), sum(resident_by_pid.values())
        if not self._history or now_s - self._history[-1].at_s >= KEPT_EVERY_S:
            self._history.append(_Sample(now_s, worker + engines, frozenset(resident_by_pid)))
        self._latest = MemoryReading(
            self._probe.machine(), worker, engines, self._trend(now_s), self._leaks(now_s)
        )
        return self._latest

    def _trend(self, now_s: float) -> Trend:
        used = [s.used_bytes for s in self._history if now_s - s.at_s <= TREND_S]
        third = len(used) // 3
        if third == 0:
            return "stable"
        before, after = sum(used[:third]), sum(used[-third:])
        if abs(after - before) <= before * TREND_SHARE:
            return "stable"
        return "increasing" if after > before else "decreasing"

    def _leaks(self, now_s: float) -> bool:
        """The floor of each of the last windows is above the one before, with the same engines."""
        samples = [s for s in self._history if now_s - s.at_s <= LEAK_S]
        if len(samples) < KEPT_SAMPLES or len({s.pids for s in samples}) != 1:
            return False
        n = len(samples) // LEAK_WINDOWS
        floors = [
            min(s.used_bytes for s in samples[i * n : (i + 1) * n]) for i in range(LEAK_WINDOWS)
        ]
        grows = all(later > earlier for earlier, later in itertools.pairwise(floors))
        growth = floors[-1] - floors[0]
        return grows and growth > max(floors[0] * LEAK_SHARE, LEAK_BYTES)
