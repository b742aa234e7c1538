"""How long one computation of a model may take before it is thought to be stuck.

It may take very long: a large model whose weights are read from disk needs minutes for a part of a
prompt. So the limit follows from what the steps before took, and is generous before the first.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from worker_runtime.engine_process.watchdog import Watchdog

# No step is taken for stuck before this, none before so many times what its tokens took at worst.
LEAST_LIMIT_S = 600.0
TIMES_THE_WORST = 20
# As long as nothing was computed: weights may first be read from a slow disk.
FIRST_LIMIT_S = 3600.0
# How much of the worst still counts after each step.
MEMORY = 0.99


class ModelSteps:
    """The steps of the one thread that touches a model."""

    def __init__(
        self, watchdog: Watchdog, thread: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._watchdog = watchdog
        self._thread = thread
        self._clock = clock
        self._worst_s_per_token: float | None = None

    @contextmanager
    def step(self, n_tokens: int) -> Iterator[None]:
        """The model computes so many tokens meanwhile; one that fails teaches nothing."""
        began_s = self._clock()
        with self._watchdog.step(self._thread, self._limit_s(n_tokens)):
            yield
        s_per_token = (self._clock() - began_s) / max(n_tokens, 1)
        self._worst_s_per_token = max(s_per_token, (self._worst_s_per_token or 0.0) * MEMORY)

    def _limit_s(self, n_tokens: int) -> float:
        if self._worst_s_per_token is None:
            return FIRST_LIMIT_S
        return max(LEAST_LIMIT_S, TIMES_THE_WORST * n_tokens * self._worst_s_per_token)
