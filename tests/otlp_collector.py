"""An OpenTelemetry collector for tests: takes spans over HTTP, as protobuf, and keeps them."""

import gzip
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan

Value = str | int | float | bool | list[str]


@dataclass
class Span:
    """One span that a service sent; ids as hex digits."""

    service: str
    name: str
    trace_id: str
    id: str
    parent_id: str
    seconds: float
    attributes: dict[str, Value]
    events: list[str]


@dataclass
class Collector:
    """
    Args:
        url: for OTLP_ENDPOINT.
        bodies: all that was sent, undecoded.
        headers: those of the requests.
    """

    url: str
    spans: list[Span] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def of(self, trace_id: str) -> list[Span]:
        return [span for span in self.spans if span.trace_id == trace_id]

    def take(self, headers: dict[str, str], body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        self.headers.append(headers)
        self.bodies.append(body)
        for resource in request.resource_spans:
            service = str(_values(resource.resource.attributes)["service.name"])
            for scope in resource.scope_spans:
                self.spans += [_span(service, sent) for sent in scope.spans]


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector on a free port of this machine."""
    made: Collector

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            made.take({k.lower(): v for k, v in self.headers.items()}, body)
            self.send_response(200 if self.path == "/v1/traces" else 404)
            reply = ExportTraceServiceResponse().SerializeToString()
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: object) -> None:
            """Tests look at the spans."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Collector(f"http://127.0.0.1:{server.server_port}")
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield made
        finally:
            server.shutdown()
            serving.join()


def _span(service: str, sent: SentSpan) -> Span:
    return Span(
        service,
        sent.name,
        sent.trace_id.hex(),
        sent.span_id.hex(),
        sent.parent_span_id.hex(),
        (sent.end_time_unix_nano - sent.start_time_unix_nano) / 1e9,
        _values(sent.attributes),
        [event.name for event in sent.events],
    )


def _values(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, str(kind))
        if kind == "array_value":
            value = [one.string_value for one in value.values]
        found[pair.key] = value
    return found
