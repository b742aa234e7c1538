"""How long to wait before a process that died is started again."""

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RestartPolicy:
    """The numbers of `Backoff`, in seconds.

    Args:
        first_s: wait after the first death; each further one doubles it.
        longest_s: the wait never grows beyond this.
        healthy_s: a process that lived this long starts the count anew.
        window_s: deaths within this time are counted for the alarm.
        alarm_at: number of deaths in the window that is a crash loop.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    healthy_s: float = 60.0
    window_s: float = 60.0
    alarm_at: int = 5


@dataclass
class Backoff:
    """Remembers the deaths of one service."""

    policy: RestartPolicy
    _n_in_a_row: int = 0
    _deaths_s: deque[float] = field(default_factory=deque)

    def died(self, now_s: float, lived_s: float) -> float:
        """Note a death; return the seconds to wait before the next start."""
        if lived_s >= self.policy.healthy_s:
            self._n_in_a_row = 0
        self._n_in_a_row += 1
        self._deaths_s.append(now_s)
        while now_s - self._deaths_s[0] > self.policy.window_s:
            self._deaths_s.popleft()
        # Capped before the power: a crash loop may go on for days.
        doublings = min(self._n_in_a_row - 1, 16)
        return float(min(self.policy.first_s * 2**doublings, self.policy.longest_s))

    @property
    def is_crash_loop(self) -> bool:
        return len(self._deaths_s) >= self.policy.alarm_at
