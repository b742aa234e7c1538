"""What operators look at: health, models, metrics."""

from typing import Any

import httpx

from tests.earlier_server import OLD_MEMORY, OLD_METRICS
from tests.running_stack import GUIDE, MINILM, RunningStack


def test_both_built_in_models_are_listed(stack: RunningStack) -> None:
    models = stack.models()
    assert {GUIDE, MINILM} <= set(models)
    assert stack.http.get(f"/v1/models/{GUIDE}").json()["id"] == GUIDE
    assert stack.http.get("/v1/models/nope").status_code == httpx.codes.NOT_FOUND


def test_detailed_health_keeps_the_old_fields(stack: RunningStack) -> None:
    body = stack.http.get("/health/detailed").json()
    assert body["status"] in {"healthy", "warning"}
    assert {"main_model_loaded", "embedding_models_count", "embedding_models"} <= set(
        body["models"]
    )
    assert set(body["memory"]) >= OLD_MEMORY
    assert set(stack.http.get("/health/memory").json()) >= OLD_MEMORY
    assert 0 <= body["memory"]["current_usage_percent"] <= 1
    assert isinstance(body["warnings"], list)


def test_detailed_health_tells_how_the_stacks_services_are(stack: RunningStack) -> None:
    services = stack.http.get("/health/detailed").json()["services"]
    assert {name: service["state"] for name, service in services.items()} == {
        "gateway": "running",
        "chat": "running",
        "embed": "running",
    }


def test_looking_at_health_never_loads_a_model(stack: RunningStack) -> None:
    stack.http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]})
    engines = {p.pid for p in stack.find("chat_worker.engine_process")}
    for path in ("/health", "/health/detailed", "/health/memory", "/metrics", "/v1/models"):
        assert stack.http.get(path).status_code == httpx.codes.OK
    assert {p.pid for p in stack.find("chat_worker.engine_process")} == engines


def test_metrics_keep_the_old_names(stack: RunningStack) -> None:
    stack.http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]})
    stack.http.post("/v1/embeddings", json={"input": "hi"})
    text = stack.http.get("/metrics").text
    for name in OLD_METRICS:
        assert f"\n{name}" in text, name


def test_unknown_paths_and_methods_answer_in_shape(stack: RunningStack) -> None:
    for reply, status in (
        (stack.http.get("/nope"), 404),
        (stack.http.get("/v1/chat/completions"), 405),
    ):
        assert reply.status_code == status
        assert reply.json()["error"]["request_id"] == reply.headers["x-request-id"]


def test_memory_is_told_by_process_and_adds_up(stack: RunningStack) -> None:
    stack.http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]})
    engines = {p.pid: p.memory_info().rss for p in stack.find("chat_worker.engine_process")}
    processes = _processes(stack)
    assert engines.keys() <= {process.get("pid") for process in processes}
    for process in processes:
        if process.get("pid") in engines:
            held = process["anonymous_bytes"] + process["mapped_bytes"]
            assert held == process["resident_bytes"]
            assert abs(held - engines[process["pid"]]) < 64 << 20
            assert process["peak_bytes"] >= held - (1 << 20)
    told = stack.http.get("/health/memory").json()
    assert told["models"][GUIDE]["booked_bytes"] > 0
    assert told["total_bytes"] >= told["available_bytes"] > 0


def _processes(stack: RunningStack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stack.http.get("/health/memory").json()["processes"]
    return found
