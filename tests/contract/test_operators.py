"""What operators and the earlier server's dashboards look at, with and without workers."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from gateway.app import create_app
from gateway.settings import GatewaySettings
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, EMBED_ID
from tests.earlier_server import OLD_MEMORY, OLD_METRICS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("with_lifespan", [False, True])
def test_the_operators_audit_passes_with_no_worker(with_lifespan: bool) -> None:
    # Port 1: nobody listens there.
    app = create_app(
        GatewaySettings(
            _env_file=None,
            chat_workers="127.0.0.1:1",
            embed_workers="127.0.0.1:1",
            worker_wait_s=0.1,
        )
    )
    client = TestClient(app)
    if with_lifespan:
        with client:
            audit(client)
    else:
        audit(client)


def audit(client: TestClient) -> None:
    health = client.get("/health")
    assert health.status_code == 200
    assert health.json()["status"] == "ok"
    detailed = client.get("/health/detailed").json()
    assert "models" in detailed
    assert detailed["models"]["main_model_loaded"] is False
    models = client.get("/v1/models").json()["data"]
    main = next(model for model in models if model["id"].startswith("qwen"))
    assert main["state"] == "unreachable"
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 503
    reply = client.post(
        "/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}]}
    )
    assert reply.status_code == 503
    assert int(reply.headers["retry-after"]) >= 1


async def test_detailed_health_keeps_the_old_fields(gateway: RunningGateway) -> None:
    body = (await gateway.http.get("/health/detailed")).json()
    assert set(body["memory"]) >= OLD_MEMORY
    assert set((await gateway.http.get("/health/memory")).json()) >= OLD_MEMORY
    assert body["models"]["main_model_loaded"] is True
    assert EMBED_ID in body["models"]["embedding_models"]
    assert body["warnings"] == [] or body["status"] == "warning"


async def test_looking_calls_no_worker(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    for path in ("/health", "/health/detailed", "/health/memory", "/metrics", "/v1/models"):
        assert (await gateway.http.get(path)).status_code == 200
    assert worker.calls == []


async def test_metrics_keep_the_old_names_and_count(gateway: RunningGateway) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    for stream in (False, True):
        await gateway.http.post("/v1/chat/completions", json=body | {"stream": stream})
    await gateway.http.post("/v1/embeddings", json={"input": "hi"})
    page = (await gateway.http.get("/metrics")).text
    figures = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    for name in OLD_METRICS:
        assert any(found.split("{")[0] == name for found in figures), name
    assert float(figures["y26hkx_chat_requests_total"]) == 2
    assert float(figures["y26hkx_embeddings_requests_total"]) == 1
    assert float(figures["y26hkx_completion_tokens_total"]) == 10
    assert float(figures["y26hkx_backend_load_failures_total"]) >= 1
    assert float(figures["y26hkx_chat_latency_sum_seconds"]) > 0


async def test_models_say_how_they_are(gateway: RunningGateway) -> None:
    models = {m["id"]: m for m in (await gateway.http.get("/v1/models")).json()["data"]}
    assert models[CHAT_ID]["state"] == "ready"
    assert models[EMBED_ID]["state"] == "unloaded"
    assert all(model["object"] == "model" for model in models.values())


async def test_the_api_describes_itself(gateway: RunningGateway) -> None:
    described = (await gateway.http.get("/openapi.json")).json()
    post = described["paths"]["/v1/chat/completions"]["post"]
    schema = post["requestBody"]["content"]["application/json"]["schema"]
    name = schema["$ref"].rpartition("/")[2]
    assert "messages" in described["components"]["schemas"][name]["properties"]


def test_a_gateway_without_any_worker_in_its_settings_is_never_ready() -> None:
    app = create_app(GatewaySettings(_env_file=None, chat_workers="", embed_workers=""))
    reply = TestClient(app).get("/health/ready")
    assert reply.status_code == 503
    assert "CHAT_WORKERS" in reply.json()["error"]["message"]


async def test_monitors_may_ask_for_the_head_only(gateway: RunningGateway) -> None:
    for path in ("/health", "/health/live", "/metrics", "/v1/models"):
        reply = await gateway.http.head(path)
        assert reply.status_code == 200
        assert int(reply.headers["content-length"]) > 0
        assert reply.content == b""
    assert (await gateway.http.head("/v1/chat/completions")).status_code == 405


def test_every_metric_is_documented_and_those_of_models_can_be_left_out() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    page = TestClient(create_app(GatewaySettings(_env_file=None))).get("/metrics").text
    names = re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)
    assert [name for name in names if f"`{name}" not in text] == []
    without = GatewaySettings(_env_file=None, detailed_metrics=False)
    short = TestClient(create_app(without)).get("/metrics").text
    assert "y26hkx_model_anonymous_bytes" in names
    assert "y26hkx_model_anonymous_bytes" not in short


async def test_detailed_health_says_which_settings_are_in_force_and_hides_secrets(
    worker: ScriptedWorker,
) -> None:
    async with running_gateway([worker], api_keys="canary-key", rate_limit=None) as gateway:
        headers = {"x-api-key": "canary-key"}
        reply = await gateway.http.get("/health/detailed", headers=headers)
    assert "canary" not in reply.text
    settings = reply.json()["settings"]
    assert settings["API_KEYS"]["value"] == "***"
    assert settings["RATE_LIMIT"]["in_force"] == "none"
    assert settings["MAX_BODY_BYTES"] == {"value": 2 * 1024 * 1024, "origin": "default"}
