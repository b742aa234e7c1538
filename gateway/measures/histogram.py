"""A histogram that costs as little as possible while requests run.

prometheus_client's takes a lock and looks labels up for each value, which at 25,000 tokens a second
would be the largest part of a token's cost. Here the event loop is the only one that counts.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence


class Histogram:
    """Counts of values by the bucket that they fall into, and their sum.

    Args:
        bounds: the largest value of each bucket but the last, in rising order.
    """

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, n: int = 1) -> None:
        """Count `n` values that are equal."""
        self._counts[bisect_left(self._bounds, value)] += n
        self.total += value * n

    def buckets(self) -> Iterator[tuple[str, float]]:
        """How many values are at most each bound, as Prometheus' clients write them."""
        n = 0
        for bound, count in zip(self._bounds, self._counts, strict=False):
            n += count
            yield str(float(bound)), n
        yield "+Inf", n + self._counts[-1]

    @property
    def n(self) -> int:
        return sum(self._counts)


# In seconds. A token takes 5 ms to some seconds on small machines; a load makes a minute of a first
# token.
TIME_BOUNDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
OVERHEAD_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
TOKEN_BOUNDS = tuple(float(2**power) for power in range(18))
