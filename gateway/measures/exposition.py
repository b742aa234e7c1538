"""Shows the measures under our names, under vLLM's, and under OpenTelemetry's for generative AI.

Dashboards, autoscalers and inference gateways know the names of vLLM, with the same meanings and
labels. OpenTelemetry's are written as its exporter for Prometheus does: with `_` and the unit.

Source: vLLM's documentation "Production metrics"; OpenTelemetry semantic conventions, "GenAI
metrics" (gen_ai.server.*, gen_ai.client.token.usage).
"""

from collections.abc import Callable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gateway.measures.histogram import Histogram
from gateway.measures.measures import KeyMeasures, Measures, ModelMeasures

VLLM, OTEL = "vllm:", "gen_ai_"
CHAT, EMBEDDINGS = "chat", "embeddings"

OfModel = Callable[[ModelMeasures], Histogram]
# Our name and the help, what it shows, and vLLM's names for it.
_HISTOGRAMS: tuple[tuple[str, str, OfModel, tuple[str, ...]], ...] = (
    (
        "time_to_first_token_seconds", "From a request's arrival to its first token",
        lambda m: m.first_token, ("time_to_first_token_seconds",),
    ),
    (
        "time_between_tokens_seconds", "Between two tokens of an answer",
        lambda m: m.between_tokens,
        ("inter_token_latency_seconds", "time_per_output_token_seconds"),
    ),
    (
        "request_queue_seconds", "In the queues of gateway and worker",
        lambda m: m.queue, ("request_queue_time_seconds",),
    ),
    (
        "request_prefill_seconds", "From the queue's end to the first token",
        lambda m: m.prefill, ("request_prefill_time_seconds",),
    ),
    (
        "request_decode_seconds", "From the first token to the last",
        lambda m: m.decode, ("request_decode_time_seconds",),
    ),
    (
        "request_seconds", "From a request's arrival to the end of its answer",
        lambda m: m.whole, ("e2e_request_latency_seconds",),
    ),
    (
        "request_prompt_tokens", "Prompt tokens of a request",
        lambda m: m.prompt_tokens, ("request_prompt_tokens",),
    ),
    (
        "request_completion_tokens", "Completion tokens of a request",
        lambda m: m.completion_tokens, ("request_generation_tokens",),
    ),
    ("embedding_request_seconds", "The worker's answer to an embedding request",
     lambda m: m.embedding, ()),
    ("embedding_request_tokens", "Tokens of an embedding request",
     lambda m: m.embedding_tokens, ()),
)  # fmt: skip
_GAUGES: tuple[tuple[str, str, Callable[[ModelMeasures], float], str], ...] = (
    (
        "requests_running", "Requests that are answered now",
        lambda m: m.n_running, "num_requests_running",
    ),
    (
        "requests_waiting", "Requests whose answer has not begun",
        lambda m: m.n_waiting, "num_requests_waiting",
    ),
)  # fmt: skip
_COUNTERS: tuple[tuple[str, str, Callable[[ModelMeasures], float], str], ...] = (
    (
        "model_prompt_tokens", "Prompt tokens",
        lambda m: m.prompt_tokens.total, "prompt_tokens",
    ),
    (
        "model_completion_tokens", "Completion tokens",
        lambda m: m.completion_tokens.total, "generation_tokens",
    ),
    (
        "prefix_cache_hit_tokens", "Prompt tokens that were in the KV cache",
        lambda m: m.cached_tokens, "prefix_cache_hits",
    ),
    (
        "prefix_cache_asked_tokens", "Prompt tokens that were looked for in the KV cache",
        lambda m: m.prompt_tokens.total, "prefix_cache_queries",
    ),
)  # fmt: skip
_OF_KEYS: tuple[tuple[str, str, Callable[[KeyMeasures], float]], ...] = (
    ("key_requests", "Requests of a key that were not refused", lambda k: k.requests),
    ("key_prompt_tokens", "Prompt tokens of a key", lambda k: k.prompt_tokens),
    ("key_completion_tokens", "Completion tokens of a key", lambda k: k.completion_tokens),
)
# What each is of OpenTelemetry's, for chat.
_OTEL: tuple[tuple[str, OfModel], ...] = (
    ("server_time_to_first_token_seconds", lambda m: m.first_token),
    ("server_time_per_output_token_seconds", lambda m: m.between_tokens),
    ("server_request_duration_seconds", lambda m: m.whole),
)
_OTEL_LABELS = ["gen_ai_operation_name", "gen_ai_request_model", "gen_ai_provider_name"]
_PROVIDER = "y26hkx"


class MeasuresCollector(Collector):
    """What `Measures` has, in Prometheus' form.

    Args:
        prefix: of our own names.
    """

    def __init__(self, measures: Measures, prefix: str = "y26hkx_") -> None:
        self._measures = measures
        self._prefix = prefix

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._histograms()
        yield from self._numbers()
        yield from self._of_otel()
        yield from self._of_keys()
        yield self._of_rules()
        overhead = HistogramMetricFamily(
            f"{self._prefix}gateway_overhead_seconds",
            "From a request's arrival until a worker is called for it",
        )
        _add(overhead, [], self._measures.overhead)
        yield overhead

    def _histograms(self) -> Iterator[Metric]:
        for name, help_, histogram, others in _HISTOGRAMS:
            names = [(f"{self._prefix}{name}", "model")]
            names += [(f"{VLLM}{other}", "model_name") for other in others]
            for full, label in names:
                family = HistogramMetricFamily(full, help_, labels=[label])
                for model, measures in self._measures.models:
                    _add(family, [model], histogram(measures))
                yield family

    def _numbers(self) -> Iterator[Metric]:
        for kind, table in ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS)):
            for name, help_, number, other in table:
                for full, label in (
                    (f"{self._prefix}{name}", "model"),
                    (f"{VLLM}{other}", "model_name"),
                ):
                    family = kind(full, help_, labels=[label])
                    for model, measures in self._measures.models:
                        family.add_metric([model], number(measures))
                    yield family
        yield from self._ends()

    def _ends(self) -> Iterator[Metric]:
        ours = CounterMetricFamily(
            f"{self._prefix}answers", "Answers by their end", labels=["model", "reason"]
        )
        theirs = CounterMetricFamily(
            f"{VLLM}request_success",
            "Answers by their end",
            labels=["model_name", "finished_reason"],
        )
        for model, measures in self._measures.models:
            for reason, n in measures.ended_by.items():
                ours.add_metric([model, reason], n)
                theirs.add_metric([model, reason], n)
        yield from (ours, theirs)

    def _of_otel(self) -> Iterator[Metric]:
        for name, histogram in _OTEL:
            family = HistogramMetricFamily(f"{OTEL}{name}", "OpenTelemetry's", labels=_OTEL_LABELS)
            for model, measures in self._measures.models:
                _add(family, [CHAT, model, _PROVIDER], histogram(measures))
                if histogram(measures) is measures.whole:
                    _add(family, [EMBEDDINGS, model, _PROVIDER], measures.embedding)
            yield family
        usage = HistogramMetricFamily(
            f"{OTEL}client_token_usage", "OpenTelemetry's",
            labels=[*_OTEL_LABELS, "gen_ai_token_type"],
        )  # fmt: skip
        for model, measures in self._measures.models:
            place = [model, _PROVIDER]
            _add(usage, [CHAT, *place, "input"], measures.prompt_tokens)
            _add(usage, [CHAT, *place, "output"], measures.completion_tokens)
            _add(usage, [EMBEDDINGS, *place, "input"], measures.embedding_tokens)
        yield usage

    def _of_keys(self) -> Iterator[Metric]:
        for name, help_, number in _OF_KEYS:
            family = CounterMetricFamily(f"{self._prefix}{name}", help_, labels=["key"])
            for key, measures in self._measures.keys:
                family.add_metric([key], number(measures))
            yield family
        refused = CounterMetricFamily(
            f"{self._prefix}key_refused", "Requests of a key over a limit", labels=["key", "code"]
        )
        for key, measures in self._measures.keys:
            for code, n in measures.refused.items():
                refused.add_metric([key, code], n)
        yield refused

    def _of_rules(self) -> Metric:
        family = CounterMetricFamily(
            f"{self._prefix}guard_matches",
            "Texts in which a rule of the guard matched",
            labels=["rule", "action", "where"],
        )
        for rule, measures in self._measures.rules:
            for (action, where), n in measures.items():
                family.add_metric([rule, action, where], n)
        return family


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    if histogram.n or not labels:
        family.add_metric(labels, list(histogram.buckets()), histogram.total)
