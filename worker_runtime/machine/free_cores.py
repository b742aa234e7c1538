"""How many cores other programs leave to this one, from moment to moment."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import psutil

from worker_runtime.machine import cores

WINDOW_S = 0.5
# Share of a core that others use before they count as a whole one. A program that would like all
# of it gets about a half while it has to share; our own gateway and its clients take far less.
TAKEN = 0.45
# Where we computed less than this share of the time, what others used was in our pause: cores that
# were free then are free, those that were taken may be free again.
COMPUTING = 0.5


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds of processor time since some fixed moment.

    Args:
        everybody: of all programs on the cores that this process may use.
        own: of this process.
    """

    everybody: float
    own: float


def read_usage(usable: Collection[int]) -> Usage:
    """What has been used of these cores, without what ran at low priority: that gives way."""
    times = psutil.cpu_times(percpu=True)
    everybody = sum(times[core].user + times[core].system for core in usable if core < len(times))
    return Usage(everybody, time.process_time())


class FreeCores:
    """How many threads to compute with beside what else runs here, at most `most`.

    Threads that compute one thing meet several hundred times a token, and each time all wait for
    the slowest: if one shares its core with another program, for that program's time slice. One
    thread less is faster then: on two cores of which one is taken, twice to four times.

    Args:
        usable: numbers of the logical cores that this process may use.
        usage: reads the time used so far, of those cores.
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
        """Cheap: looks at most twice a second."""
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
    """Of this machine: the physical ones that this process may use, while they are free."""
    usable = cores.usable()
    return FreeCores(cores.physical(usable), usable)
