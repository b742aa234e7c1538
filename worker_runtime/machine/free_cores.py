"""Measures, while a model computes, how many cores other programs leave free."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import psutil

from worker_runtime.machine import cores

WINDOW_S = 0.5
# A core counts as taken after so many windows in which it was: a program that only starts, as some
# clients do for each request, takes it for less.
N_WINDOWS = 2
# The share of a core that other programs must use before it counts as taken. A program that wants a
# whole core gets about half of it while it shares the core; our gateway and clients use far less.
TAKEN = 0.45
# If we computed for less than this share of the time since the last step, there was a pause. What
# other programs used in it, they may leave free now: then a core that counted as free stays free.
COMPUTING = 0.5


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds of processor time since a fixed moment.

    Args:
        everybody: used by all programs on the cores that this process may use.
        own: used by this process.
    """

    everybody: float
    own: float


def read_usage(usable: Collection[int]) -> Usage:
    """Time used on these cores. Programs of low priority are left out, because they give way."""
    times = psutil.cpu_times(percpu=True)
    everybody = sum(times[core].user + times[core].system for core in usable if core < len(times))
    return Usage(everybody, time.process_time())


class FreeCores:
    """Chooses the number of threads to compute with, at most `most`.

    Threads that compute one step synchronise several hundred times per token, and each time all of
    them wait for the slowest. A thread that shares its core with another program delays all others
    by that program's time slice. Then one thread less is faster: on two cores of which one is
    taken, by a factor of two to four.

    Args:
        usable: numbers of the logical cores that this process may use.
        usage: reads the processor time used so far on those cores.
        own_s: reads that of this process, for each step.
    """

    def __init__(
        self,
        most: int,
        usable: Collection[int],
        clock: Callable[[], float] = time.monotonic,
        usage: Callable[[Collection[int]], Usage] = read_usage,
        own_s: Callable[[], float] = time.process_time,
    ) -> None:
        self._most = most
        self._usable = usable
        self._clock = clock
        self._usage = usage
        self._own_s = own_s
        self._count = most
        self._n_taken = 0  # windows one after the other, apart from those with a pause
        self._has_paused = False
        self._last = clock(), own_s()
        self._since_s = self._last[0]
        self._before = self._usage(usable)

    def __call__(self) -> int:
        """The number of threads for the next step. It is cheap, because it looks at other programs
        at most twice a second."""
        (last_s, last_own_s), self._last = self._last, (self._clock(), self._own_s())
        now_s, own_s = self._last
        self._has_paused |= own_s - last_own_s < COMPUTING * (now_s - last_s)
        if now_s - self._since_s >= WINDOW_S:
            self._end_window(now_s)
        return self._count

    def _end_window(self, now_s: float) -> None:
        now = self._usage(self._usable)
        others_s = now.everybody - self._before.everybody - (now.own - self._before.own)
        beside = self._beside(others_s / (now_s - self._since_s))
        if beside >= self._count:
            self._count, self._n_taken = beside, 0
        elif not self._has_paused:
            self._n_taken += 1
            if self._n_taken >= N_WINDOWS:
                self._count, self._n_taken = beside, 0
        self._since_s, self._before, self._has_paused = now_s, now, False

    def _beside(self, others: float) -> int:
        n_taken = int(max(0.0, others) + 1 - TAKEN)
        return max(1, min(self._most, len(self._usable) - n_taken))


def thread_count(configured: int) -> Callable[[], int]:
    """The number of threads, evaluated before each step: as configured, or if that is 0 the
    physical cores of the fast kind that this process may use and others leave free."""
    if configured:
        return lambda: configured
    usable = cores.fastest(cores.usable())
    return FreeCores(cores.physical(usable), usable)
