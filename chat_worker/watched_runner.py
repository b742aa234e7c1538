"""A runner whose computations are watched, so that one that never comes back is noticed.

A step may take very long: a large model whose weights are read from disk needs minutes for a part
of a prompt. So the limit follows from what the steps before took, and is generous before the first.
"""

import time
from collections.abc import Callable
from collections.abc import Sequence as Rows

from chat_worker.engine.runner import CacheOp, Item, Limits, Runner
from chat_worker.engine.sampling import Row
from worker_runtime.watchdog import Watchdog

# No step is taken for stuck before this, none before so many times what its tokens took at worst.
LEAST_LIMIT_S = 600.0
TIMES_THE_WORST = 20
# As long as nothing was computed: weights may first be read from a slow disk.
FIRST_LIMIT_S = 3600.0
# How much of the worst still counts after each step.
MEMORY = 0.99


class WatchedRunner:
    """Implements `chat_worker.engine.runner.Runner` by another one."""

    def __init__(
        self, runner: Runner, watchdog: Watchdog, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._runner = runner
        self._watchdog = watchdog
        self._clock = clock
        self._worst_s_per_token: float | None = None

    @property
    def limits(self) -> Limits:
        return self._runner.limits

    def apply(self, op: CacheOp) -> None:
        with self._watchdog.step("engine", LEAST_LIMIT_S):
            self._runner.apply(op)

    def run(self, items: list[Item]) -> Rows[Row]:
        n_tokens = sum(item.size for item in items)
        began_s = self._clock()
        with self._watchdog.step("engine", self._limit_s(n_tokens)):
            rows = self._runner.run(items)
        self._learn((self._clock() - began_s) / max(n_tokens, 1))
        return rows

    def length(self, slot: int) -> int:
        return self._runner.length(slot)

    def shed(self) -> None:
        self._runner.shed()

    def close(self) -> None:
        self._runner.close()

    def _limit_s(self, n_tokens: int) -> float:
        if self._worst_s_per_token is None:
            return FIRST_LIMIT_S
        return max(LEAST_LIMIT_S, TIMES_THE_WORST * n_tokens * self._worst_s_per_token)

    def _learn(self, s_per_token: float) -> None:
        self._worst_s_per_token = max(s_per_token, (self._worst_s_per_token or 0.0) * MEMORY)
