"""Memory as the gateway reports it: of the machine, and of each process and model.

Workers know the limits of their control groups, so their latest status is used. The gateway
measures itself, and the machine only if no worker serves.
"""

import os
from collections.abc import Iterator
from typing import Any

import psutil
from google.protobuf.message import Message

from common.sizes import GIB
from gateway.pool.endpoint import Endpoint
from gateway.routes.models import state_name
from gateway.services import Services
from protos.y26hkx.v1 import worker_pb2

ELEVATED, HIGH = 0.8, 0.9
# The first one that any worker reports counts.
PRESSURES = ("full", "some")
TRENDS = ("increasing", "decreasing")


def memory_of(services: Services) -> dict[str, Any]:
    """The body of `/health/memory`; the fields of the earlier server come first."""
    workers = list(_serving(services))
    reported = [endpoint.status.memory for _, endpoint in workers]
    total, available = _machine(reported)
    processes = list(_processes(workers))
    trends = {memory.trend for memory in reported}
    pressures = {memory.pressure for memory in reported}
    return {
        "current_usage_percent": round(1 - available / total, 4),
        "available_gb": round(available / GIB, 3),
        "process_memory_gb": round(sum(p["resident_bytes"] for p in processes) / GIB, 3),
        "memory_trend": next((t for t in TRENDS if t in trends), "stable"),
        "leak_detected": any(memory.leak_detected for memory in reported),
        "total_bytes": total,
        "available_bytes": available,
        "headroom_bytes": max((memory.headroom_bytes for memory in reported), default=0),
        "booked_bytes": sum(memory.booked_bytes for memory in reported),
        "gateway_bytes": processes[0]["resident_bytes"],
        "workers_bytes": sum(memory.worker_resident_bytes for memory in reported),
        "engines_bytes": sum(memory.engines_resident_bytes for memory in reported),
        "pressure": next((p for p in PRESSURES if p in pressures), "none"),
        "pressure_some": round(max((memory.pressure_some for memory in reported), default=0.0), 4),
        "pressure_full": round(max((memory.pressure_full for memory in reported), default=0.0), 4),
        "processes": processes,
        "models": {
            model.id: {"state": state_name(model.state)} | _figures(model.memory)
            for pool in (services.pool.chat, services.pool.embed)
            for model in pool.models().values()
        },
        "workers": [
            {"worker": endpoint.address} | _worker(endpoint.status.memory)
            for _, endpoint in workers
        ],
    }


def warnings_of(memory: dict[str, Any]) -> list[str]:
    """Ids of the findings in `memory_of`'s answer that an operator should look at."""
    found = []
    if memory["current_usage_percent"] >= HIGH:
        found.append("high_memory_usage")
    elif memory["current_usage_percent"] >= ELEVATED:
        found.append("elevated_memory_usage")
    if memory["pressure"] != "none":
        found.append("memory_pressure")
    if memory["leak_detected"]:
        found.append("memory_leak_detected")
    return found


def _serving(services: Services) -> Iterator[tuple[str, Endpoint]]:
    for kind, workers in (("chat", services.pool.chat), ("embed", services.pool.embed)):
        for endpoint in workers.serving:
            yield kind, endpoint


def _machine(reported: list[worker_pb2.Memory]) -> tuple[int, int]:
    """Total and available bytes, as reported by the worker that has the least available."""
    known = [memory for memory in reported if memory.total_bytes]
    if known:
        least = min(known, key=lambda memory: memory.available_bytes)
        return least.total_bytes, least.available_bytes
    machine = psutil.virtual_memory()
    return machine.total, machine.available


def _processes(workers: list[tuple[str, Endpoint]]) -> Iterator[dict[str, Any]]:
    own = psutil.Process().memory_info().rss
    yield {"process": "gateway", "pid": os.getpid(), "resident_bytes": own}
    for kind, endpoint in workers:
        worker = endpoint.status.memory.worker_resident_bytes
        yield {
            "process": f"{kind}_worker",
            "worker": endpoint.address,
            "resident_bytes": worker,
        }
        for model in endpoint.status.models:
            if model.pid:
                yield {
                    "process": "engine",
                    "worker": endpoint.address,
                    "model": model.id,
                    "pid": model.pid,
                    "resident_bytes": model.resident_bytes,
                    "anonymous_bytes": model.memory.anonymous_bytes,
                    "mapped_bytes": model.memory.mapped_bytes,
                    "peak_bytes": model.memory.peak_bytes,
                }


def _worker(memory: worker_pb2.Memory) -> dict[str, Any]:
    return _figures(memory) | {"limit_bytes": memory.limit_bytes or None}


def _figures(message: Message) -> dict[str, Any]:
    """All fields by name, including those that are zero."""
    values = {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in values.items()
    }
