"""Measures, while a model computes, how many cores other programs leave free."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import psutil

from worker_runtime.machine import cores

WINDOW_S = 0.5
# The share of a core that other programs must use before it counts as taken. A program that wants a
# whole core gets about half of it while it shares the core; our gateway and clients use far less.
TAKEN = 0.45
# If we computed for less than this share of the time, other programs may have used cores only
# during our pause. Then a core that counted as free stays free.
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
    """

    def __init__(
        self,
        most: int,
        usable: Collection[int],
        clock: Callable[[], float] = time.monotonic,
        usage: Callable[[Collection[int]], Usage] = read_usage,
    ) -> None:
        self._most = most
        self._usable = usable
        self._clock = clock
        self._usage = usage
        self._since = clock()
        self._before = self._usage(usable)
        self._count = most

    def __call__(self) -> int:
        """The number of threads. It is cheap, because it measures at most twice a second."""
        elapsed = self._clock() - self._since
        if elapsed >= WINDOW_S:
            now = self._usage(self._usable)
            own = (now.own - self._before.own) / elapsed
            everybody = (now.everybody - self._before.everybody) / elapsed
            beside = self._beside(everybody - own)
            self._count = beside if own >= COMPUTING else max(self._count, beside)
            self._since, self._before = self._since + elapsed, now
        return self._count

    def _beside(self, others: float) -> int:
        n_taken = int(max(0.0, others) + 1 - TAKEN)
        return max(1, min(self._most, len(self._usable) - n_taken))


def free_cores() -> Callable[[], int]:
    """Choose among the physical cores that this process may use."""
    usable = cores.usable()
    return FreeCores(cores.physical(usable), usable)
