"""Health for people, probes and the earlier server's dashboards; it never loads a model."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from common.error_texts import ErrorText
from common.errors import NotReady
from gateway.errors import json_response
from gateway.pool.names import named
from gateway.pool.workers import Workers
from gateway.routes.memory import memory_of, warnings_of
from gateway.routes.models import models_of
from gateway.services import Services, services_of

router = APIRouter()


@router.get("/health")
async def health(request: Request) -> Response:
    """200 as long as the gateway answers; the body counts the workers that serve."""
    pool = services_of(request).pool
    workers = {"chat": len(pool.chat.serving), "embed": len(pool.embed.serving)}
    return json_response({"status": "ok", "workers_serving": workers})


@router.get("/health/live")
async def live(request: Request) -> Response:
    """200 as long as the process answers."""
    return json_response({"status": "live"})


@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """200 if each kind of worker has one that serves, and the gateway does not drain.

    A kind whose name has no address was scaled to none on purpose, and is not waited for.
    """
    services = services_of(request)
    kinds = {"chat": services.pool.chat, "embed": services.pool.embed}
    configured = {kind: workers for kind, workers in kinds.items() if workers.targets}
    serving = [kind for kind, workers in configured.items() if workers.serving]
    missing = [
        kind
        for kind, workers in configured.items()
        if kind not in serving and (workers.has_addresses or not serving)
    ]
    if services.drain.begun:
        raise NotReady(ErrorText("server_stopping"), retry_after_s=5)
    if not configured:
        raise NotReady(ErrorText("no_worker_configured"))
    if missing:
        raise NotReady(
            ErrorText("no_worker_serves", services=" and ".join(missing)), retry_after_s=1
        )
    return json_response({"status": "ready"})


@router.get("/health/memory")
async def memory(request: Request) -> Response:
    """The memory of the machine, and of each process and model of this server."""
    return json_response(memory_of(services_of(request)))


@router.get("/health/detailed")
async def detailed(request: Request) -> Response:
    """Memory, models, workers, services, warnings and settings."""
    services = services_of(request)
    used = memory_of(services)
    warnings = warnings_of(used) + services.supervision.warnings()
    body = {
        "status": "warning" if warnings else "healthy",
        "memory": used,
        "models": _models(services),
        "workers": {
            "chat": _workers("chat", services.pool.chat),
            "embed": _workers("embed", services.pool.embed),
        },
        "warnings": warnings,
        "settings": _settings(services),
    }
    if conditions := services.supervision.services():
        body["services"] = conditions
    return json_response(body)


def _settings(services: Services) -> dict[str, Any]:
    """This gateway's settings in force and their origins; `in_force` has what follows from them."""
    settings = services.settings
    rates = {"RATE_LIMIT": settings.rate or "none", "MAX_IN_FLIGHT_PER_KEY": settings.most_at_once}
    return {
        name: shown._asdict() | ({"in_force": rates[name]} if name in rates else {})
        for name, shown in services.shown_settings.items()
    }


def _models(services: Services) -> dict[str, Any]:
    found = models_of(services)
    embedding = services.pool.embed.models()
    main = next((m for m in services.pool.chat.models().values() if m.is_default), None)
    loaded = main is not None and found[main.id]["state"] in ("ready", "draining")
    return {
        "main_model": main.id if main is not None else services.settings.main_model_id,
        "main_model_loaded": loaded,
        "embedding_models_count": len(embedding),
        "embedding_models": list(embedding),
        "all": found,
    }


def _workers(kind: str, workers: Workers) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "address": endpoint.address,
            "serving": endpoint.serving,
            "left_out": endpoint.conduct.reason,
            "draining": endpoint.status.draining,
            "queue_depth": endpoint.status.queue_depth,
            "n_active": endpoint.status.n_active,
            "n_outstanding": endpoint.n_outstanding,
            "uptime_seconds": round(endpoint.status.uptime_s, 1),
            "available_bytes": endpoint.status.memory.available_bytes,
        }
        for name, endpoint in named(kind, workers.endpoints)
    ]
