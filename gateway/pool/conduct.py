"""How one worker has behaved lately: its circuit breaker, and what it is compared by.

Closed: it gets calls. Open: it gets none for a while, longer each time. Half open: it gets one call
at a time, until one is answered, which closes the breaker, or fails, which opens it again.

Source: Nygard, Release It!, 2nd edition, chapter 5 (circuit breaker).
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

# Lost calls, an error rate above the others', or answers that take much longer than the others'.
Reason = Literal["failures", "errors", "slow"]
FIRST_OUT_S, LONGEST_OUT_S, MOST_DOUBLINGS = 5.0, 60.0, 8
# What counts less at each look, so that it fades within about half a minute.
FADE = 0.9


@dataclass
class Mean:
    """A sum that fades, and how many values are in it."""

    n: float = 0.0
    total: float = 0.0

    def add(self, value: float) -> None:
        self.n += 1
        self.total += value

    def fade(self) -> None:
        self.n *= FADE
        self.total *= FADE

    @property
    def value(self) -> float:
        return self.total / self.n if self.n else 0.0


class Conduct:
    """Args:
    clock: returns seconds, never less than before.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # The share of calls that failed.
        self.failed = Mean()
        # Seconds by model: for an output token, or for a small call for vectors.
        self.pace: defaultdict[str, Mean] = defaultdict(Mean)
        self.failures_in_a_row = 0
        self.ejections: Counter[Reason] = Counter()
        self.reason: Reason | None = None
        self._out_until_s = 0.0
        # How often in a row it was left out, with little time between.
        self._n_out = 0

    @property
    def is_closed(self) -> bool:
        return self.reason is None

    def takes(self, n_outstanding: int) -> bool:
        """Whether it may get a call beside those that it has."""
        return self.reason is None or (n_outstanding == 0 and self._clock() >= self._out_until_s)

    def answered(self) -> None:
        self.failures_in_a_row = 0
        self.failed.add(0)
        if self.reason is not None and self._clock() >= self._out_until_s:
            self.reason = None

    def eject(self, reason: Reason) -> float:
        """Open the breaker; the seconds until it is half open."""
        now_s = self._clock()
        if now_s - self._out_until_s > 2 * LONGEST_OUT_S:
            self._n_out = 0
        out_s = min(FIRST_OUT_S * 2.0**self._n_out, LONGEST_OUT_S)
        self._n_out = min(self._n_out + 1, MOST_DOUBLINGS)
        self._out_until_s = now_s + out_s
        self.reason = reason
        self.ejections[reason] += 1
        self.failures_in_a_row = 0
        self.failed = Mean()
        self.pace.clear()
        return out_s

    def begin_anew(self) -> None:
        """A new process serves at this address."""
        self.reason, self.failures_in_a_row, self._n_out = None, 0, 0
        self.failed = Mean()
        self.pace.clear()

    def fade(self) -> None:
        self.failed.fade()
        for mean in self.pace.values():
            mean.fade()
