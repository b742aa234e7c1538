"""What the pool did about workers that fail or are slow, for `/metrics`."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.pool import Pool
from gateway.pool.names import named


class PoolFigures(Collector):
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "y26hkx_worker_calls",
            "Calls by the configured name of their worker, and how they ended",
            labels=["kind", "target", "outcome"],
        )
        retries = CounterMetricFamily(
            "y26hkx_worker_retries",
            "Calls that were tried again, or not, as the budget was used up",
            labels=["kind", "outcome"],
        )
        hedges = CounterMetricFamily(
            "y26hkx_worker_hedges", "Second calls, and those that were first", labels=["outcome"]
        )
        ejections = CounterMetricFamily(
            "y26hkx_worker_ejections",
            "How often a worker was left out",
            labels=["worker", "reason"],
        )
        out = GaugeMetricFamily(
            "y26hkx_worker_left_out", "1: it gets no calls now", labels=["worker"]
        )
        diverted = CounterMetricFamily(
            "y26hkx_worker_diverted",
            "Calls of a worker's conversations that went elsewhere, as it had too many",
            labels=["worker"],
        )
        for kind, workers in (("chat", self._pool.chat), ("embed", self._pool.embed)):
            for (target, outcome), n in workers.outliers.calls.items():
                calls.add_metric([kind, target, outcome], n)
            retries.add_metric([kind, "made"], workers.retries.n_taken)
            retries.add_metric([kind, "refused"], workers.retries.n_refused)
            for name, endpoint in named(kind, workers.endpoints):
                out.add_metric([name], not endpoint.conduct.is_closed)
                diverted.add_metric([name], endpoint.n_diverted)
                for reason, n in endpoint.conduct.ejections.items():
                    ejections.add_metric([name, reason], n)
        hedges.add_metric(["sent"], self._pool.embed.hedging.n_sent)
        hedges.add_metric(["first"], self._pool.embed.hedging.n_won)
        yield from (calls, retries, hedges, ejections, out, diverted)
