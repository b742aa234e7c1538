"""What `/health/memory`, `/health/detailed` and `/metrics` say of memory that workers report."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from protos.y26hkx.v1 import worker_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, EMBED_ID

GIB = 1 << 30
ROOMY = worker_pb2.Memory(total_bytes=8 * GIB, available_bytes=4 * GIB, trend="stable")


class LoadedWorker(ScriptedWorker):
    """Its chat model has a process."""

    def models(self) -> list[worker_pb2.Model]:
        found = super().models()
        found[0].pid = 77
        found[0].resident_bytes = 3 * GIB
        found[0].memory.CopyFrom(
            worker_pb2.ModelMemory(
                estimated_bytes=4 * GIB,
                booked_bytes=4 * GIB,
                anonymous_bytes=1 * GIB,
                mapped_bytes=2 * GIB,
                peak_bytes=3 * GIB,
                kv_bytes=GIB // 2,
            )
        )
        return found


@asynccontextmanager
async def gateway_over(*memories: worker_pb2.Memory) -> AsyncIterator[RunningGateway]:
    workers = [LoadedWorker(memory=memory) for memory in memories]
    for worker in workers:
        await worker.start()
    try:
        async with running_gateway(workers) as running:
            yield running
    finally:
        for worker in workers:
            await worker.stop()


async def memory_told_of(*memories: worker_pb2.Memory) -> dict[str, Any]:
    async with gateway_over(*memories) as gateway:
        body: dict[str, Any] = (await gateway.http.get("/health/memory")).json()
    return body


async def test_the_machine_is_as_the_worker_with_the_least_available_sees_it() -> None:
    container = worker_pb2.Memory(total_bytes=2 * GIB, available_bytes=GIB // 2)
    told = await memory_told_of(ROOMY, container)
    assert (told["total_bytes"], told["available_gb"]) == (2 * GIB, 0.5)
    assert told["current_usage_percent"] == 0.75


async def test_every_process_and_model_is_listed_with_its_figures() -> None:
    told = await memory_told_of(
        worker_pb2.Memory(
            total_bytes=8 * GIB,
            available_bytes=4 * GIB,
            worker_resident_bytes=GIB,
            engines_resident_bytes=3 * GIB,
            booked_bytes=4 * GIB,
            headroom_bytes=GIB,
        )
    )
    assert {p["process"] for p in told["processes"]} == {
        "gateway", "chat_worker", "embed_worker", "engine",
    }  # fmt: skip
    engine = next(p for p in told["processes"] if p["process"] == "engine")
    assert (engine["model"], engine["pid"], engine["resident_bytes"]) == (CHAT_ID, 77, 3 * GIB)
    chat = told["models"][CHAT_ID]
    assert chat["state"] == "ready"
    assert (chat["anonymous_bytes"], chat["mapped_bytes"], chat["kv_bytes"]) == (
        GIB, 2 * GIB, GIB // 2,
    )  # fmt: skip
    assert told["models"][EMBED_ID]["booked_bytes"] == 0
    assert told["headroom_bytes"] == GIB
    assert told["workers"][0]["limit_bytes"] is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"available_bytes": int(1.5 * GIB)}, ["elevated_memory_usage"]),
        ({"available_bytes": GIB // 2}, ["high_memory_usage"]),
        ({"pressure": "some", "pressure_some": 0.2}, ["memory_pressure"]),
        ({"leak_detected": True}, ["memory_leak_detected"]),
    ],
)
async def test_each_warning_comes_at_its_own_sign(
    change: dict[str, Any], expected: list[str]
) -> None:
    told = worker_pb2.Memory(**({"total_bytes": 8 * GIB, "available_bytes": 4 * GIB} | change))
    async with gateway_over(told) as gateway:
        body = (await gateway.http.get("/health/detailed")).json()
    assert body["warnings"] == expected
    assert body["status"] == ("warning" if expected else "healthy")


@pytest.mark.parametrize(
    ("trends", "expected"),
    [
        (("stable", "decreasing"), "decreasing"),
        (("decreasing", "increasing"), "increasing"),
        (("", "stable"), "stable"),
    ],
)
async def test_one_workers_trend_tells_more_than_anothers_calm(
    trends: tuple[str, ...], expected: str
) -> None:
    memories = [
        worker_pb2.Memory(total_bytes=GIB, available_bytes=GIB, trend=trend) for trend in trends
    ]
    assert (await memory_told_of(*memories))["memory_trend"] == expected


async def test_metrics_tell_of_models_memory_and_of_pressure() -> None:
    told = worker_pb2.Memory(total_bytes=GIB, available_bytes=1024, pressure_full=0.25)
    async with gateway_over(told) as gateway:
        page = (await gateway.http.get("/metrics")).text
    figures = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    labels = f'{{model="{CHAT_ID}",worker="chat-scripted"}}'
    assert float(figures[f"y26hkx_model_anonymous_bytes{labels}"]) == GIB
    assert float(figures[f"y26hkx_model_mapped_bytes{labels}"]) == 2 * GIB
    assert (
        float(figures['y26hkx_memory_pressure_ratio{waiting="full",worker="chat-scripted"}'])
        == 0.25
    )
    assert float(figures['y26hkx_available_memory_bytes{worker="chat-scripted"}']) == 1024


async def test_workers_are_named_by_their_hosts_and_by_addresses_where_those_are_no_names() -> None:
    async with ScriptedWorker() as a, ScriptedWorker() as b, ScriptedWorker() as c:
        a.host, b.host, c.host = 'box 1"}\n' + "x" * 100, "twins", "twins"
        async with running_gateway([a, b, c]) as gateway:
            detailed = (await gateway.http.get("/health/detailed")).json()
            page = (await gateway.http.get("/metrics")).text
    expected = {f"chat-box_1___{'x' * 56}", f"chat-{b.address}", f"chat-{c.address}"}
    assert {worker["name"] for worker in detailed["workers"]["chat"]} == expected
    assert set(re.findall(r'^y26hkx_slots_in_use{worker="(chat[^"]+)"}', page, re.M)) == expected
