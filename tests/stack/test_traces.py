"""One trace of a request through gateway, worker and engine process, at a collector of ours."""

import secrets
from collections.abc import Iterator

import pytest

from tests.otlp_collector import Collector, Span, collector
from tests.running_stack import GUIDE, MINILM, RunningStack, wait_until

CANARY = "canary-in-a-prompt"
HEADERS = {"OTLP_HEADERS": "x-team=canary-team"}


@pytest.fixture(scope="module")
def collected() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, collected: Collector) -> Iterator[RunningStack]:
    log = tmp_path_factory.mktemp("traces") / "stack.log"
    with RunningStack(log, OTLP_ENDPOINT=collected.url, **HEADERS) as running:
        yield running


def traceparent(*, sampled: bool = True) -> tuple[str, str]:
    """A caller's header, and its trace id."""
    trace_id = secrets.token_hex(16)
    return f"00-{trace_id}-{secrets.token_hex(8)}-0{int(sampled)}", trace_id


def whole_trace(collected: Collector, trace_id: str, n_spans: int) -> dict[str, Span]:
    """The spans of a trace by service and name, once all have come."""

    def looks() -> Iterator[bool]:
        while True:
            yield len(collected.of(trace_id)) >= n_spans

    wait_until(looks(), 30, f"{n_spans} spans, there are {collected.of(trace_id)}")
    return {
        f"{span.service.removeprefix('y26hkx-')}: {span.name}": span
        for span in collected.of(trace_id)
    }


def test_a_chat_is_one_trace_from_the_callers_span_to_the_engine(
    stack: RunningStack, collected: Collector
) -> None:
    header, trace_id = traceparent()
    body = {
        "model": GUIDE,
        "messages": [{"role": "user", "content": CANARY}],
        "max_tokens": 4,
        "temperature": 0,
        "stream": True,
    }
    reply = stack.http.post(
        "/v1/chat/completions", json=body, headers={"traceparent": header, "tracestate": "v=1"}
    )
    assert reply.status_code == 200, reply.text
    spans = whole_trace(collected, trace_id, 8)
    gateway, worker = "gateway: ", "chat-worker: "
    rpc = worker + "y26hkx.v1.ChatService/Generate"
    request = gateway + "POST /v1/chat/completions"
    parents = {
        gateway + "queue": request,
        gateway + f"chat {GUIDE}": request,
        rpc: gateway + f"chat {GUIDE}",
        worker + "load": rpc,
        worker + "queue": rpc,
        worker + "prefill": rpc,
        worker + "decode": rpc,
    }
    assert spans.keys() == {request, *parents}
    assert spans[request].parent_id == header.split("-")[2]
    assert {child: spans[child].parent_id for child in parents} == {
        child: spans[parent].id for child, parent in parents.items()
    }
    called = spans[gateway + f"chat {GUIDE}"]
    assert called.events == ["first token"]
    assert called.attributes["gen_ai.operation.name"] == "chat"
    assert called.attributes["gen_ai.response.model"] == GUIDE
    assert called.attributes["gen_ai.request.max_tokens"] == 4
    assert called.attributes["gen_ai.usage.output_tokens"] == 4
    assert called.attributes["gen_ai.response.finish_reasons"] == ["length"]
    assert spans[request].attributes["http.response.status_code"] == 200
    engine = stack.one("chat_worker.engine_process")
    assert spans[worker + "prefill"].attributes["process.pid"] == engine.pid
    assert 0 < spans[worker + "decode"].seconds < spans[request].seconds
    assert f"trace={trace_id}" in stack.log.read_text()
    assert not [sent for sent in collected.bodies if CANARY.encode() in sent]
    assert {sent["x-team"] for sent in collected.headers} == {"canary-team"}


def test_a_small_embedding_is_traced_through_the_stream_that_all_share(
    stack: RunningStack, collected: Collector
) -> None:
    body = {"model": MINILM, "input": "warm"}
    stack.http.post("/v1/embeddings", json=body).raise_for_status()
    header, trace_id = traceparent()
    reply = stack.http.post("/v1/embeddings", json=body, headers={"traceparent": header})
    assert reply.status_code == 200, reply.text
    spans = whole_trace(collected, trace_id, 4)
    rpc = next(span for name, span in spans.items() if "EmbedMany" in name or "Embed" in name)
    assert spans[f"gateway: embeddings {MINILM}"].attributes["gen_ai.usage.input_tokens"] > 0  # type: ignore[operator]
    assert spans["embed-worker: encode"].attributes["process.pid"] == (
        stack.one("embed_worker.encoder_process").pid
    )
    assert rpc.trace_id == trace_id


def test_failures_have_their_codes_and_the_callers_decision_counts(
    stack: RunningStack, collected: Collector
) -> None:
    unsampled, unseen = traceparent(sampled=False)
    sampled, seen = traceparent()
    for header in (unsampled, sampled):
        body = {"model": "none", "messages": [{"role": "user", "content": CANARY}]}
        reply = stack.http.post("/v1/chat/completions", json=body, headers={"traceparent": header})
        assert reply.status_code == 404
    spans = whole_trace(collected, seen, 3)
    request = spans["gateway: POST /v1/chat/completions"]
    assert request.attributes["error.type"] == "model_not_found"
    assert not collected.of(unseen)
