"""Which workers of a kind get no calls for a while, because they fail or are much slower than the
others: one that loses its calls at once, the others by comparison, now and then.

At least one always gets calls, and of those that are left out by comparison there is never more
than a third: what all do alike is no worker's fault. Nor are requests: only what says something of
the worker counts.

Source: Envoy's documentation, "Outlier detection" (bounded share, longer each time).
"""

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from common.error_texts import ErrorText
from common.errors import BackendFailure, Cancelled, DeadlineExceeded, ServingError, WorkerLost
from gateway.pool.conduct import Mean, Reason
from gateway.pool.endpoint import Endpoint

FAILURES_IN_A_ROW = 5
# Fewer calls tell nothing.
LEAST_CALLS = 10
WORST_SHARE = 0.5
# Differences that nobody notices.
LEAST_SLOWER_S = 0.02
MOST_MODELS = 16

log = logging.getLogger(__name__)


class Outliers:
    """Args:
    endpoints: returns the workers.
    slow_factor: this many times the others' time is too slow; 0: however slow.
    """

    def __init__(self, endpoints: Callable[[], Sequence[Endpoint]], slow_factor: float) -> None:
        self._endpoints = endpoints
        self._slow_factor = slow_factor
        self._out: set[Endpoint] = set()
        # Calls by the configured name of their worker, and how they ended.
        self.calls: Counter[tuple[str, str]] = Counter()

    def sound(self, candidates: list[Endpoint]) -> list[Endpoint]:
        """Those that may get a call now; all, if none may."""
        if not self._out:
            return candidates
        self._out = {endpoint for endpoint in self._out if not endpoint.conduct.is_closed}
        return [e for e in candidates if e.conduct.takes(e.n_outstanding)] or candidates

    def note_answer(self, endpoint: Endpoint) -> None:
        self.calls[endpoint.target, "answered"] += 1
        endpoint.conduct.answered()

    def note_pace(self, endpoint: Endpoint, model: str, seconds: float) -> None:
        """
        Args:
            seconds: comparable with those of other calls: of a token, or of a small call.
        """
        pace = endpoint.conduct.pace
        if model in pace or len(pace) < MOST_MODELS:
            pace[model].add(seconds)

    def note_error(self, endpoint: Endpoint, error: ServingError) -> None:
        conduct = endpoint.conduct
        is_lost = isinstance(error, WorkerLost) or _is_silent(error)
        if not is_lost and not isinstance(error, BackendFailure):
            self.calls[endpoint.target, "refused"] += 1
            if not isinstance(error, DeadlineExceeded | Cancelled):
                conduct.answered()
            return
        self.calls[endpoint.target, "failed"] += 1
        conduct.failed.add(1)
        conduct.failures_in_a_row += is_lost
        again = not conduct.is_closed and conduct.takes(0)
        if again or conduct.failures_in_a_row >= FAILURES_IN_A_ROW:
            self._eject(endpoint, conduct.reason or "failures")

    def compare(self) -> None:
        """Look at all; called every few seconds."""
        known = self._endpoints()
        self._out.intersection_update(known)
        compared = [e for e in known if e.serving and e.conduct.is_closed]
        n = sum(e.conduct.failed.n for e in compared)
        n_failed = sum(e.conduct.failed.total for e in compared)
        paces = _paces(compared)
        for endpoint in compared:
            failed = endpoint.conduct.failed
            others = Mean(n - failed.n, n_failed - failed.total)
            if _fails_more(failed, others):
                self._eject(endpoint, "errors")
            elif self._slow_factor and self._is_slower(endpoint, paces):
                self._eject(endpoint, "slow")
        for endpoint in known:
            endpoint.conduct.fade()

    def _is_slower(self, endpoint: Endpoint, paces: Mapping[str, list[float]]) -> bool:
        for model, mine in endpoint.conduct.pace.items():
            if mine.n >= LEAST_CALLS and len(paces[model]) > 1:
                usual_s = _median_of_others(paces[model], mine.value)
                if mine.value > max(self._slow_factor * usual_s, usual_s + LEAST_SLOWER_S):
                    return True
        return False

    def _eject(self, endpoint: Endpoint, reason: Reason) -> None:
        serving = [e for e in self._endpoints() if e.serving]
        n_out = sum(not e.conduct.is_closed for e in serving if e is not endpoint)
        most = len(serving) - 1
        if reason != "failures":
            most = min(most, max(1, len(serving) // 3))
        if n_out >= most:
            return
        out_s = endpoint.conduct.eject(reason)
        self._out.add(endpoint)
        log.warning("worker %s gets no calls for %.0f s: %s", endpoint.address, out_s, reason)


def _fails_more(mine: Mean, others: Mean) -> bool:
    enough = min(mine.n, others.n) >= LEAST_CALLS
    return enough and mine.value >= WORST_SHARE and others.value < mine.value / 2


def _paces(endpoints: Iterable[Endpoint]) -> dict[str, list[float]]:
    """The sorted times of each model, from workers with enough calls."""
    found: dict[str, list[float]] = {}
    for endpoint in endpoints:
        for model, pace in endpoint.conduct.pace.items():
            if pace.n >= LEAST_CALLS:
                found.setdefault(model, []).append(pace.value)
    return {model: sorted(values) for model, values in found.items()}


def _median_of_others(values: Sequence[float], mine: float) -> float:
    """The median of sorted values without one of them."""
    at, n = bisect_left(values, mine), len(values) - 1
    low, high = ((n - 1) // 2, n // 2)
    return (values[low + (low >= at)] + values[high + (high >= at)]) / 2


def _is_silent(error: ServingError) -> bool:
    """Whether it stopped in the middle of an answer; other limits may be the client's own."""
    text = error.message
    is_ours = isinstance(text, ErrorText) and text.id == "worker_silent"
    return isinstance(error, DeadlineExceeded) and is_ours
