"""The worker's own Prometheus page, off by default, as the gateway reports the same figures."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from worker_runtime.lifecycle.manager import Models
from worker_runtime.lifecycle.snapshot import ModelSnapshot
from worker_runtime.memory.monitor import MemoryReading

# Metric name, help text, and the function that reads the value.
_Figure = tuple[str, str, Callable[[ModelSnapshot], float]]
COUNTERS: tuple[_Figure, ...] = (
    ("y26hkx_model_loads", "Loads that succeeded", lambda s: s.counters.loads),
    ("y26hkx_model_load_failures", "Loads that failed", lambda s: s.counters.load_failures),
    ("y26hkx_model_load_seconds", "Time spent loading", lambda s: s.counters.load_seconds_sum),
    ("y26hkx_model_crashes", "Crashes of a loaded model", lambda s: s.counters.crashes),
    ("y26hkx_model_unloads", "Unloads", lambda s: s.counters.unloads),
    ("y26hkx_model_recycles", "Ended for leaking", lambda s: s.counters.recycles),
    ("y26hkx_model_requests", "Requests", lambda s: s.counters.requests),
    ("y26hkx_model_prompt_tokens", "Prompt tokens", lambda s: s.counters.prompt_tokens),
    ("y26hkx_model_cached_tokens", "Of them cached", lambda s: s.counters.cached_tokens),
    ("y26hkx_model_completion_tokens", "Generated", lambda s: s.counters.completion_tokens),
    ("y26hkx_model_busy_seconds", "Time in use", lambda s: s.counters.busy_seconds_sum),
)
GAUGES: tuple[_Figure, ...] = (
    ("y26hkx_model_leases", "Requests that use the model", lambda s: s.n_leases),
    ("y26hkx_model_waiting", "Requests that wait for the model", lambda s: s.n_waiting),
    ("y26hkx_model_resident_bytes", "Resident memory", lambda s: s.memory.resident_bytes),
    ("y26hkx_model_anonymous_bytes", "Of them anonymous", lambda s: s.memory.anonymous_bytes),
    ("y26hkx_model_mapped_bytes", "Of them of mapped files", lambda s: s.memory.mapped_bytes),
    ("y26hkx_model_booked_bytes", "Booked for the model", lambda s: s.booked_bytes),
    ("y26hkx_model_loaded", "1 while loaded", lambda s: 1 if s.pid else 0),
)
MEMORY: tuple[tuple[str, str, Callable[[MemoryReading], float]], ...] = (
    ("y26hkx_total_memory_bytes", "Total memory", lambda r: r.machine.total_bytes),
    ("y26hkx_available_memory_bytes", "Available memory", lambda r: r.machine.available_bytes),
    ("y26hkx_memory_pressure_some", "Share of time some waited for it", lambda r: r.stalled_some),
    ("y26hkx_memory_pressure_full", "Share of time all waited for it", lambda r: r.stalled_full),
)

# If the event loop does not answer within this time, the page reports an error.
SNAPSHOT_S = 5.0

log = logging.getLogger(__name__)


@contextmanager
def metrics_page(host: str, port: int, models: Models) -> Iterator[None]:
    """Serve the page on `port` inside the `with` block; port 0: serve nothing."""
    if not port:
        yield
        return
    # Imported here, so that a worker without the page does not load the library.
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector

    class ModelFigures(Collector):
        def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
            # This runs on the page's thread, but the models belong to the event loop.
            looking = asyncio.run_coroutine_threadsafe(_look(models), loop)
            snapshots, memory = looking.result(SNAPSHOT_S)
            for name, text, figure in COUNTERS:
                counter = CounterMetricFamily(name, text, labels=("model",))
                for snapshot in snapshots:
                    counter.add_metric((snapshot.entry.id,), figure(snapshot))
                yield counter
            for name, text, figure in GAUGES:
                gauge = GaugeMetricFamily(name, text, labels=("model",))
                for snapshot in snapshots:
                    gauge.add_metric((snapshot.entry.id,), figure(snapshot))
                yield gauge
            for name, text, figure_of in MEMORY:
                yield GaugeMetricFamily(name, text, value=figure_of(memory))

    loop = asyncio.get_running_loop()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ModelFigures())
    server, thread = start_http_server(port, host, registry)
    log.info("metrics on http://%s:%d/metrics", host, port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def _look(models: Models) -> tuple[list[ModelSnapshot], MemoryReading]:
    snapshots = models.snapshot()
    return snapshots, models.memory(snapshots)
