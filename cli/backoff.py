"""How long to wait before a process that died is started again, and when to give it up.

After a few deaths the waits are short. A crash loop opens the circuit breaker: from then on, the
process is started once after each long wait, and given up after a number of failed starts.
"""

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RestartPolicy:
    """The parameters of `Backoff`, times in seconds.

    Args:
        first_s: wait after the first death; each further one doubles it.
        longest_s: the wait never grows beyond this while the breaker is closed.
        healthy_s: the death of a process that lived this long resets all counts.
        window_s: deaths within this time are counted for the breaker.
        n_in_window: this number of deaths in the window is a crash loop.
        n_in_a_row: so is this number of deaths without a healthy life between, however slow.
        open_s: wait after the breaker opened; each failed start doubles it.
        longest_open_s: that wait never grows beyond this.
        n_tries: failed starts with an open breaker, after which the process is given up.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    healthy_s: float = 60.0
    window_s: float = 60.0
    n_in_window: int = 5
    n_in_a_row: int = 10
    open_s: float = 60.0
    longest_open_s: float = 900.0
    n_tries: int = 10


@dataclass
class Backoff:
    """Counts the deaths of one service."""

    policy: RestartPolicy
    _n_in_a_row: int = 0
    _n_opened: int = 0
    _deaths_s: deque[float] = field(default_factory=deque)

    def died(self, now_s: float, lived_s: float) -> float | None:
        """Record a death.

        Returns:
            Seconds to wait before the next start; None: the process is given up.
        """
        policy = self.policy
        if lived_s >= policy.healthy_s:
            self._n_in_a_row = self._n_opened = 0
        self._n_in_a_row += 1
        self._deaths_s.append(now_s)
        while now_s - self._deaths_s[0] > policy.window_s:
            self._deaths_s.popleft()
        crash_loop = (
            len(self._deaths_s) >= policy.n_in_window or self._n_in_a_row >= policy.n_in_a_row
        )
        if not (self.is_open or crash_loop):
            return min(policy.first_s * 2.0 ** (self._n_in_a_row - 1), policy.longest_s)
        self._n_opened += 1
        if self._n_opened > policy.n_tries:
            return None
        return min(policy.open_s * 2.0 ** (self._n_opened - 1), policy.longest_open_s)

    @property
    def is_open(self) -> bool:
        """Whether the service keeps crashing."""
        return self._n_opened > 0
