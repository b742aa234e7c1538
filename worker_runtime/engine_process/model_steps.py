"""Limits how long one step of a model may take before it counts as stuck.

A step may take very long: a large model whose weights are read from disk needs minutes for a part
of a prompt. So the limit follows from the duration of earlier steps, and is generous before the
first one.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from worker_runtime.engine_process.watchdog import Watchdog

# The least limit, and how many times the worst duration per token so far a step may take.
LEAST_LIMIT_S = 600.0
TIMES_THE_WORST = 20
# The limit before anything was computed, when weights may be read from a slow disk.
FIRST_LIMIT_S = 3600.0
# The worst duration fades by this factor with each step.
MEMORY = 0.99


class ModelSteps:
    """Times the steps of the one thread that runs the model."""

    def __init__(
        self, watchdog: Watchdog, thread: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._watchdog = watchdog
        self._thread = thread
        self._clock = clock
        self._worst_s_per_token: float | None = None

    @contextmanager
    def step(self, n_tokens: int) -> Iterator[None]:
        """Time the computation of `n_tokens` inside the `with` block; failed steps are not
        counted."""
        began_s = self._clock()
        with self._watchdog.step(self._thread, self._limit_s(n_tokens)):
            yield
        s_per_token = (self._clock() - began_s) / max(n_tokens, 1)
        self._worst_s_per_token = max(s_per_token, (self._worst_s_per_token or 0.0) * MEMORY)

    def _limit_s(self, n_tokens: int) -> float:
        if self._worst_s_per_token is None:
            return FIRST_LIMIT_S
        return max(LEAST_LIMIT_S, TIMES_THE_WORST * n_tokens * self._worst_s_per_token)
