"""What `/metrics` says of requests, and that dashboards and rules ask only for what is there."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from gateway.keys.administration import add_key
from gateway.keys.record import Limits, Rights
from gateway.measures.measures import MOST_KEYS
from protos.y26hkx.v1 import chat_pb2, common_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway, ticks
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, EMBED_ID, delta, started

MONITORING = Path(__file__).resolve().parents[2] / "deploy/monitoring"
CHAT, EMBED = "/v1/chat/completions", "/v1/embeddings"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}


async def samples(gateway: RunningGateway, **headers: str) -> dict[tuple[str, str], float]:
    """All values, by the name and the sorted labels."""
    page = (await gateway.http.get("/metrics", headers=headers)).text
    return {
        (sample.name, ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


async def three_tokens(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
    yield started(cached_tokens=2)
    for text in "abc":
        yield delta(text)
    yield chat_pb2.GenerateEvent(
        finished=chat_pb2.Finished(
            choices=[chat_pb2.ChoiceEnd(reason=chat_pb2.ChoiceEnd.REASON_STOP)],
            usage=common_pb2.Usage(prompt_tokens=3, completion_tokens=3),
            timings=chat_pb2.Timings(queue_s=0.3, prefill_s=0.2, decode_s=0.1),
        )
    )


async def test_a_generation_is_measured_under_our_names_and_those_of_others(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = three_tokens
    for stream in (False, True):
        await gateway.http.post(CHAT, json=BODY | {"stream": stream})
    found = await samples(gateway)
    ours, theirs = f"model={CHAT_ID}", f"model_name={CHAT_ID}"
    assert found["y26hkx_time_to_first_token_seconds_count", ours] == 2
    assert found["y26hkx_time_between_tokens_seconds_count", ours] == 4
    assert found["y26hkx_request_queue_seconds_sum", ours] == pytest.approx(0.6, abs=0.5)
    assert found["y26hkx_request_prompt_tokens_sum", ours] == 6
    assert found["y26hkx_request_prompt_tokens_bucket", f"le=2.0,{ours}"] == 0
    assert found["y26hkx_request_prompt_tokens_bucket", f"le=4.0,{ours}"] == 2
    assert found["y26hkx_prefix_cache_hit_tokens_total", ours] == 4
    assert found["y26hkx_answers_total", f"{ours},reason=stop"] == 2
    assert found["y26hkx_gateway_overhead_seconds_count", ""] == 2
    for name in (
        *("time_to_first_token_seconds", "e2e_request_latency_seconds"),
        *("request_queue_time_seconds", "request_generation_tokens"),
    ):
        assert found[f"vllm:{name}_count", theirs] == 2, name
    assert found["vllm:generation_tokens_total", theirs] == 6
    assert found["vllm:request_success_total", f"finished_reason=stop,{theirs}"] == 2
    otel = f"gen_ai_operation_name=chat,gen_ai_provider_name=y26hkx,gen_ai_request_model={CHAT_ID}"
    assert found["gen_ai_server_request_duration_seconds_count", otel] == 2
    assert found["gen_ai_client_token_usage_sum", f"{otel},gen_ai_token_type=output"] == 6


async def test_what_runs_and_what_waits_is_known_by_model_and_ends_with_the_request(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    seen: list[dict[tuple[str, str], float]] = []

    async def looks(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        seen.append(await samples(gateway))
        yield started()
        yield delta("a")
        # The gateway hears of both a moment later.
        async with asyncio.timeout(10):
            async for _ in ticks():
                if (await samples(gateway))["y26hkx_requests_running", place] == 1:
                    break
        yield chat_pb2.GenerateEvent(finished=chat_pb2.Finished())

    place = f"model={CHAT_ID}"
    worker.generate = looks
    assert (await gateway.http.post(CHAT, json=BODY)).status_code == 200
    assert seen[0]["y26hkx_requests_waiting", place] == 1
    found = await samples(gateway)
    for name in ("y26hkx_requests_running", "y26hkx_requests_waiting"):
        assert found[name, place] == 0


async def test_embeddings_and_loads_are_measured(gateway: RunningGateway) -> None:
    await gateway.http.post(EMBED, json={"input": ["a", "b"]})
    found = await samples(gateway)
    assert found["y26hkx_embedding_request_tokens_sum", f"model={EMBED_ID}"] == 4
    assert found["y26hkx_embedding_request_seconds_count", f"model={EMBED_ID}"] == 1
    # The scripted worker has loaded its model twice, in three seconds.
    assert found["y26hkx_model_load_duration_seconds_count", f"model={CHAT_ID}"] == 2
    assert found["y26hkx_model_load_duration_seconds_sum", f"model={CHAT_ID}"] == 3


async def test_keys_are_counted_by_alias_and_those_that_are_too_many_together(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    admin = add_key(path, Rights(admin=True, alias="boss")).text
    limited = add_key(path, Rights(alias="7b", chat=Limits(requests_per_minute=1))).text
    async with running_gateway([worker], api_keys_file=path) as gateway:
        for key in (limited, limited):
            await gateway.http.post(CHAT, json=BODY, headers={"x-api-key": key})
        found = await samples(gateway, authorization=f"Bearer {admin}")
        assert found["y26hkx_key_requests_total", "key=7b"] == 1
        assert found["y26hkx_key_completion_tokens_total", "key=7b"] == 4
        assert found["y26hkx_key_refused_total", "code=rate_limit_exceeded,key=7b"] == 1
        keys = gateway.services.metrics.measures.keys
        for n in range(MOST_KEYS * 2):
            keys[f"k{n}"].requests += 1
        labels = [label for label, _ in keys]
        assert len(labels) == MOST_KEYS + 1
        assert keys["other"].requests > MOST_KEYS


async def test_models_that_nobody_knows_are_counted_together(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = three_tokens
    for name in ("evil-1", "evil-2"):
        await gateway.http.post(CHAT, json=BODY | {"model": name})
    assert "evil" not in (await gateway.http.get("/metrics")).text


def expressions() -> Iterator[str]:
    board = json.loads((MONITORING / "grafana-dashboard.json").read_text("utf-8"))
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    rules = yaml.safe_load((MONITORING / "prometheus-rules.yml").read_text("utf-8"))
    for group in rules["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


async def test_dashboard_and_rules_are_valid_and_ask_for_metrics_that_there_are(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    worker.generate = three_tokens
    path = tmp_path / "keys"
    key = add_key(path, Rights(admin=True, chat=Limits(requests_per_minute=1))).text
    async with running_gateway([worker], api_keys_file=path) as gateway:
        for url, body in ((CHAT, BODY), (CHAT, BODY), (EMBED, {"input": "a"})):
            await gateway.http.post(url, json=body, headers={"x-api-key": key})
        page = (await gateway.http.get("/metrics", headers={"x-api-key": key})).text
    # A family whose labels have no value yet is known by its type.
    known = {"up"}
    for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", page, re.MULTILINE):
        known |= (
            {f"{name}{end}" for end in ("_bucket", "_sum", "_count")}
            if kind == "histogram"
            else {name}
        )
    found = list(expressions())
    assert len(found) > 30
    for expression in found:
        text = expression.replace("$__rate_interval", "5m").replace("$model", ".*")
        promql_parser.parse(text)
        asked = set(re.findall(r"\b(?:up|y26hkx_\w+|vllm:\w+)\b(?=[{\[\s)]|$)", text))
        assert asked, expression
        assert asked <= known, expression
