"""Traces: what a request waited for and who computed it, sent to an OpenTelemetry collector.

A service makes a `Tracer` if its settings name a collector; else nothing of OpenTelemetry is
imported, and `current` is None in every task. Spans have no text of a request unless `TRACE_TEXTS`
asks for it.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, Self

from common.settings import SharedSettings

if TYPE_CHECKING:
    from opentelemetry import trace

# W3C Trace Context; in HTTP headers, in metadata of calls, and on the pipe to an engine process.
TRACE_KEYS = ("traceparent", "tracestate")
Kind = Literal["internal", "server", "client"]
Value = str | int | float | bool | list[str]

EXPORT_EVERY_MS = 1000
EXPORT_TIMEOUT_S = 5
# Names of models and texts are the clients'.
MAX_VALUE_CHARS = 16_384
NANOSECONDS = 1_000_000_000

# The span that this task works for; None: it is not traced.
current: "ContextVar[Span | None]" = ContextVar("span", default=None)


class Span:
    """One step of a request, from its creation to `end`."""

    __slots__ = ("_span", "_tracer")

    def __init__(self, tracer: "Tracer", span: "trace.Span") -> None:
        self._tracer = tracer
        self._span = span

    @property
    def takes_texts(self) -> bool:
        return self._tracer.takes_texts and self._span.is_recording()

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def headers(self) -> dict[str, str]:
        """What tells another process of this span."""
        return self._tracer.headers_of(self._span)

    def child(
        self,
        name: str,
        attributes: Mapping[str, Value] | None = None,
        *,
        kind: Kind = "internal",
        began_s: float | None = None,
    ) -> "Span":
        """A step of this step.

        Args:
            began_s: when it began, by `time.time`; None: now.
        """
        return self._tracer.start(name, kind, self._span, attributes, began_s)

    def note(self, attributes: Mapping[str, Value]) -> None:
        self._span.set_attributes(attributes)

    def rename(self, name: str, attributes: Mapping[str, Value]) -> None:
        self._span.update_name(name)
        self.note(attributes)

    def happened(self, event: str) -> None:
        """Something happened now."""
        self._span.add_event(event)

    def end(self, error: str = "", *, at_s: float | None = None) -> None:
        """
        Args:
            error: the code of what it failed with; empty: it did not fail.
            at_s: when it ended, by `time.time`; None: now.
        """
        if error:
            self._tracer.fail(self._span, error)
        self._span.end(_ns(at_s))


class Tracer:
    """Begins spans and exports them, in a thread of its own.

    Args:
        service: the name under which the collector shows them.
    """

    def __init__(self, settings: SharedSettings, service: str) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        self._provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(settings.trace_sample_ratio),
            resource=Resource.create({"service.name": f"y26hkx-{service}"}),
            span_limits=SpanLimits(max_span_attribute_length=MAX_VALUE_CHARS),
        )
        exporter = OTLPSpanExporter(
            endpoint=settings.otlp_endpoint.rstrip("/") + "/v1/traces",
            headers=settings.otlp_header_fields,
            timeout=EXPORT_TIMEOUT_S,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, schedule_delay_millis=EXPORT_EVERY_MS)
        )
        self._tracer = self._provider.get_tracer("y26hkx")
        self.takes_texts = settings.trace_texts

    @classmethod
    def of(cls, settings: SharedSettings, service: str) -> Self | None:
        """The tracer that `settings` ask for, if they do."""
        return cls(settings, service) if settings.otlp_endpoint else None

    def begin(
        self, name: str, headers: Mapping[str, str], attributes: Mapping[str, Value] | None = None
    ) -> Span:
        """The first span of this process for a request.

        Args:
            headers: of the request; those of W3C Trace Context name its caller's span.
        """
        carrier = {key: headers[key] for key in TRACE_KEYS if key in headers}
        caller = self._propagator.extract(carrier)
        return self._started(name, "server", caller, attributes, None)

    def start(
        self,
        name: str,
        kind: Kind,
        parent: "trace.Span",
        attributes: Mapping[str, Value] | None,
        began_s: float | None,
    ) -> Span:
        context = self._trace.set_span_in_context(parent)
        return self._started(name, kind, context, attributes, began_s)

    def headers_of(self, span: "trace.Span") -> dict[str, str]:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._trace.set_span_in_context(span))
        return carrier

    def fail(self, span: "trace.Span", error: str) -> None:
        span.set_attribute("error.type", error)
        span.set_status(self._trace.StatusCode.ERROR)

    async def close(self) -> None:
        """Export the rest; a collector that hangs delays this for a few seconds."""
        await asyncio.to_thread(self._provider.shutdown)

    def _started(
        self,
        name: str,
        kind: Kind,
        context: Any,
        attributes: Mapping[str, Value] | None,
        began_s: float | None,
    ) -> Span:
        kinds = self._trace.SpanKind
        span = self._tracer.start_span(
            name, context, kinds[kind.upper()], attributes, start_time=_ns(began_s)
        )
        return Span(self, span)


@contextmanager
def step(
    name: str, attributes: Mapping[str, Value] | None = None, *, kind: Kind = "internal"
) -> Iterator[Span | None]:
    """A step of what this task works for; None if that is not traced."""
    parent = current.get()
    if parent is None:
        yield None
        return
    span = parent.child(name, attributes, kind=kind)
    current.set(span)
    error = ""
    try:
        yield span
    except BaseException as raised:
        error = error_code(raised)
        raise
    finally:
        # `reset` would refuse in the task that closes an abandoned generator.
        current.set(parent)
        span.end(error)


def error_code(raised: BaseException) -> str:
    """The code of an error of ours, else the name of its type."""
    return str(getattr(raised, "code", "") or type(raised).__name__)


def _ns(at_s: float | None) -> int | None:
    return None if at_s is None else int(at_s * NANOSECONDS)
