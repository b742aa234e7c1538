"""Tells a leak from work: anonymous memory of an idle process that grows with every round of work.

Only floors count, what is held while nobody uses the model. Mapped files and page cache are not
looked at, and a cache that fills up stops growing.
"""

import itertools
from collections import deque

# Requests between two floors: the rounds of equal work.
ROUND_REQUESTS = 16
# The first rounds fill caches and allocators' pools.
WARM_UP_ROUNDS = 2
GROWING_ROUNDS = 5
LEAK_SHARE = 0.1
LEAK_BYTES = 64 << 20


class Floors:
    """Of one process."""

    def __init__(self) -> None:
        self._floors: deque[int] = deque(maxlen=GROWING_ROUNDS)
        self._at_request = 0
        self._n_rounds = 0

    def note(self, anonymous_bytes: int, n_requests: int) -> None:
        """What it holds while idle, after `n_requests` since it was loaded."""
        if n_requests - self._at_request < ROUND_REQUESTS:
            return
        self._at_request = n_requests
        self._n_rounds += 1
        if self._n_rounds > WARM_UP_ROUNDS:
            self._floors.append(anonymous_bytes)

    @property
    def is_leaking(self) -> bool:
        floors = list(self._floors)
        if len(floors) < GROWING_ROUNDS:
            return False
        growth = floors[-1] - floors[0]
        grows = all(later > earlier for earlier, later in itertools.pairwise(floors))
        return grows and growth >= max(floors[0] * LEAK_SHARE, LEAK_BYTES)
