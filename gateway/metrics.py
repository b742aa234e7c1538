"""Prometheus metrics under the names of the earlier server.

The gateway counts requests. What only a worker knows comes from its latest status when the page is
requested, so that nothing is counted twice and no worker is called.
"""

from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from common import errors
from common.errors import ServingError
from gateway.measures.exposition import MeasuresCollector
from gateway.measures.loads import LoadSums, LoadTimes
from gateway.measures.measures import Measures
from gateway.measures.pool import PoolFigures
from gateway.middleware.body_budget import BodyBudget
from gateway.pool import Pool
from gateway.pool.names import named
from gateway.sharing.fair_queue import FairQueue
from protos.y26hkx.v1 import common_pb2, worker_pb2

disable_created_metrics()

KINDS = ("memory", "timeout", "validation", "overload", "unavailable", "cancelled", "internal")
_KIND_OF: dict[type[ServingError], str] = {
    errors.BackendLoadFailed: "memory",
    errors.DeadlineExceeded: "timeout",
    errors.InvalidRequest: "validation",
    errors.ModelNotFound: "validation",
    errors.AuthenticationFailed: "validation",
    errors.PermissionDenied: "validation",
    errors.RateLimited: "overload",
    errors.Overloaded: "overload",
    errors.NotReady: "unavailable",
    errors.WorkerLost: "unavailable",
    errors.Cancelled: "cancelled",
}


class Metrics:
    def __init__(
        self, pool: Pool, bodies: BodyBudget, turns: FairQueue, *, detailed: bool = True
    ) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter("y26hkx_requests", "API requests", registry=registry)
        self.chat_requests = Counter("y26hkx_chat_requests", "Generations", registry=registry)
        self.embeddings_requests = Counter(
            "y26hkx_embeddings_requests", "Embedding requests", registry=registry
        )
        self._errors = Counter("y26hkx_errors", "Failed requests", ["kind"], registry=registry)
        for kind in KINDS:
            self._errors.labels(kind)
        self._latency_sum = Gauge(
            "y26hkx_chat_latency_sum_seconds", "Sum of chat latencies", registry=registry
        )
        self._latency_max = Gauge(
            "y26hkx_chat_latency_max_seconds", "Longest chat", registry=registry
        )
        body_bytes = Gauge(
            "y26hkx_body_bytes_in_flight", "Bodies of requests in progress", registry=registry
        )
        body_bytes.set_function(lambda: bodies.in_flight_bytes)
        self._longest_s = 0.0
        self._prompt = Counter("y26hkx_prompt_tokens", "Prompt tokens", registry=registry)
        self._completion = Counter(
            "y26hkx_completion_tokens", "Completion tokens", registry=registry
        )
        self._total = Counter("y26hkx_total_tokens", "All tokens", registry=registry)
        registry.register(_WorkerFigures(pool, turns, detailed))
        registry.register(PoolFigures(pool))
        self.measures = Measures()
        registry.register(MeasuresCollector(self.measures))

    def count_error(self, error: ServingError) -> None:
        kind = next((_KIND_OF[t] for t in type(error).__mro__ if t in _KIND_OF), "internal")
        self._errors.labels(kind).inc()

    def count_chat(self, seconds: float) -> None:
        self._latency_sum.inc(seconds)
        self._longest_s = max(self._longest_s, seconds)
        self._latency_max.set(self._longest_s)

    def count_tokens(self, usage: common_pb2.Usage) -> None:
        self._prompt.inc(usage.prompt_tokens)
        self._completion.inc(usage.completion_tokens)
        self._total.inc(usage.prompt_tokens + usage.completion_tokens)

    def page(self) -> bytes:
        return generate_latest(self._registry)


class _WorkerFigures(Collector):
    def __init__(self, pool: Pool, turns: FairQueue, detailed: bool) -> None:
        self._pool = pool
        self._turns = turns
        self._detailed = detailed
        self._loads = LoadTimes()

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield self._load_times()
        chat, embed = (
            [model for endpoint in workers.endpoints for model in endpoint.status.models]
            for workers in (self._pool.chat, self._pool.embed)
        )
        everything = [*chat, *embed]
        loads = sum(m.counters.loads for m in everything)
        failures = sum(m.counters.load_failures for m in everything)
        yield _gauge(
            "y26hkx_model_loaded_timestamp",
            "When the main model was loaded, seconds since the epoch",
            max((m.loaded_at_s for m in chat if m.is_default), default=0.0),
        )
        yield _counter("y26hkx_backend_load_failures", "Loads that failed", failures)
        attempts = CounterMetricFamily(
            "y26hkx_model_load_attempts", "Loads by outcome", labels=["status"]
        )
        attempts.add_metric(["success"], loads)
        attempts.add_metric(["failure"], failures)
        yield attempts
        yield _summary("y26hkx_model_load_seconds", "Duration of loads", everything)
        yield _summary(
            "y26hkx_embedding_model_load_seconds", "Duration of loads of embedding models", embed
        )
        ready = sum(m.state == worker_pb2.MODEL_STATE_READY for m in embed)
        yield _gauge("y26hkx_active_embedding_models", "Loaded embedding models", ready)
        yield _counter(
            "y26hkx_embedding_encode_seconds",
            "Time in which embedding models were in use",
            sum(m.counters.busy_seconds_sum for m in embed),
        )
        yield _counter(
            "y26hkx_engine_crashes", "Engine processes that died",
            sum(m.counters.crashes for m in everything),
        )  # fmt: skip
        yield from self._per_worker()
        yield from self._per_model()
        yield from self._caches()

    def _load_times(self) -> Metric:
        self._loads.look(
            LoadSums(
                endpoint.address, model.id, model.counters.loads, model.counters.load_seconds_sum
            )
            for workers in (self._pool.chat, self._pool.embed)
            for endpoint in workers.endpoints
            for model in endpoint.status.models
        )
        family = HistogramMetricFamily(
            "y26hkx_model_load_duration_seconds", "Duration of each load", labels=["model"]
        )
        for model, histogram in self._loads.models:
            family.add_metric([model], list(histogram.buckets()), histogram.total)
        return family

    def _per_worker(self) -> Iterator[Metric]:
        available = GaugeMetricFamily(
            "y26hkx_available_memory_bytes",
            "Memory available, as a worker sees it",
            labels=["worker"],
        )
        booked = GaugeMetricFamily(
            "y26hkx_booked_memory_bytes", "Memory reserved for models", labels=["worker"]
        )
        pressure = GaugeMetricFamily(
            "y26hkx_memory_pressure_ratio",
            "Share of the last ten seconds in which some, or all, programs waited for memory",
            labels=["worker", "waiting"],
        )
        queued = GaugeMetricFamily("y26hkx_queue_depth", "Requests that wait", labels=["worker"])
        active = GaugeMetricFamily(
            "y26hkx_slots_in_use", "Requests that a worker computes", labels=["worker"]
        )
        demand = GaugeMetricFamily(
            "y26hkx_worker_demand",
            "Requests that run on workers of a kind, or wait until one serves",
            labels=["kind"],
        )
        for kind, workers in (("chat", self._pool.chat), ("embed", self._pool.embed)):
            n_running = sum(endpoint.n_outstanding for endpoint in workers.endpoints)
            # Chats wait in the gateway for their turn, too.
            n_in_turn = self._turns.n_waiting if kind == "chat" else 0
            demand.add_metric([kind], n_running + workers.n_waiting + n_in_turn)
            for name, endpoint in named(kind, workers.endpoints):
                memory = endpoint.status.memory
                available.add_metric([name], memory.available_bytes)
                booked.add_metric([name], memory.booked_bytes)
                pressure.add_metric([name, "some"], memory.pressure_some)
                pressure.add_metric([name, "full"], memory.pressure_full)
                queued.add_metric([name], endpoint.status.queue_depth)
                active.add_metric([name], endpoint.status.n_active)
        yield from (available, booked, pressure, queued, active, demand)

    def _per_model(self) -> Iterator[Metric]:
        if not self._detailed:
            return
        anonymous = GaugeMetricFamily(
            "y26hkx_model_anonymous_bytes",
            "Anonymous memory of a model's process",
            labels=["worker", "model"],
        )
        mapped = GaugeMetricFamily(
            "y26hkx_model_mapped_bytes",
            "Resident memory of files that a model's process maps",
            labels=["worker", "model"],
        )
        for kind, workers in (("chat", self._pool.chat), ("embed", self._pool.embed)):
            for name, endpoint in named(kind, workers.endpoints):
                for model in endpoint.status.models:
                    labels = [name, model.id]
                    anonymous.add_metric(labels, model.memory.anonymous_bytes)
                    mapped.add_metric(labels, model.memory.mapped_bytes)
        yield from (anonymous, mapped)

    def _caches(self) -> Iterator[Metric]:
        labels = ["worker", "model", "place"]
        name = "y26hkx_embedding_cache"
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {
            "hits": CounterMetricFamily(f"{name}_hits", "Vectors found", labels=labels),
            "misses": CounterMetricFamily(f"{name}_misses", "Vectors not found", labels=labels),
            "evictions": CounterMetricFamily(f"{name}_evictions", "Vectors evicted", labels=labels),
            "bytes": GaugeMetricFamily(f"{name}_bytes", "Bytes of cached vectors", labels=labels),
            "entries": GaugeMetricFamily(f"{name}_entries", "Cached vectors", labels=labels),
        }
        for worker, endpoint in named("embed", self._pool.embed.endpoints):
            for model in endpoint.status.models:
                for cache in model.caches:
                    for field, family in families.items():
                        value = getattr(cache, field)
                        family.add_metric([worker, model.id, cache.place], value)
        yield from families.values()


def _gauge(name: str, help_: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_, value=value)


def _counter(name: str, help_: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, help_, value=value)


def _summary(name: str, help_: str, models: list[worker_pb2.Model]) -> SummaryMetricFamily:
    return SummaryMetricFamily(
        name,
        help_,
        count_value=sum(m.counters.loads for m in models),
        sum_value=sum(m.counters.load_seconds_sum for m in models),
    )
