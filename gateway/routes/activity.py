"""`GET /health/activity` and `POST /v1/requests/cancel`: what runs, what happened to the models,
and how to end a request from outside."""

import time
from dataclasses import asdict
from itertools import islice
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import json_response
from gateway.middleware.body import parse
from gateway.middleware.request_context import context_of
from gateway.openapi import takes
from gateway.pool.running import Running
from gateway.schemas.lifecycle import CancelRequest
from gateway.services import Services, services_of

MOST_REQUESTS = 200
MOST_EVENTS = 100

router = APIRouter()


@router.get("/health/activity")
async def activity(request: Request) -> Response:
    """The generations that run or wait, the sums that rates follow from, and the latest events of
    models. It has no text of a request; a key sees its own requests only."""
    services, owner = services_of(request), _owner(request)
    running = services.pool.chat.generations
    seen = [one for one in running if owner in (None, one.owner)]
    now_s = time.monotonic()
    body = {
        "n_running": sum(one.has_started for one in seen),
        "n_waiting": sum(not one.has_started for one in seen),
        "requests": [_described(one, now_s) for one in islice(seen, MOST_REQUESTS)],
        "totals": asdict(running.totals),
        "events": _events(services),
    }
    return json_response(body)


@router.post("/v1/requests/cancel", openapi_extra=takes(CancelRequest))
async def cancel(request: Request) -> Response:
    """End the generations of a request, by the id in its `x-request-id` header. Its client gets an
    error with the code `cancelled`; a key can end its own requests only."""
    body = await parse(request, CancelRequest)
    n = services_of(request).pool.chat.generations.cancel(body.request_id, _owner(request))
    return json_response({"request_id": body.request_id, "cancelled": n})


def _owner(request: Request) -> str | None:
    """Whose requests may be seen and ended; None: those of all, for admins and without keys."""
    context = context_of(request.scope)
    return None if context.key is None or context.key.admin else context.cache_salt


def _described(one: Running, now_s: float) -> dict[str, Any]:
    seconds = now_s - one.began_s
    decoding_s = 0.0 if one.first_s is None else now_s - one.first_s
    found: dict[str, Any] = {
        "request_id": one.request_id,
        "model": one.model,
        "state": "running" if one.has_started else "waiting",
        "seconds": round(seconds, 3),
        "prompt_tokens": one.prompt_tokens,
        "cached_tokens": one.cached_tokens,
        "completion_tokens": one.n_tokens,
        "first_token_seconds": None if one.first_s is None else round(one.first_s - one.began_s, 3),
        "tokens_per_second": round(one.n_tokens / decoding_s, 2) if decoding_s > 0 else None,
    }
    if one.has_started or one.call is None:
        return found
    queued = one.call.queued
    wait_s = queued.estimated_wait_s if queued.HasField("estimated_wait_s") else None
    return found | {
        "waits_for": queued.reason or "queue",
        "position": queued.position or None,
        "estimated_wait_seconds": None if wait_s is None else round(wait_s, 1),
        "load_fraction": round(queued.load_fraction, 3),
    }


def _events(services: Services) -> list[dict[str, Any]]:
    """The events of all workers, the latest first."""
    pools = (services.pool.chat, services.pool.embed)
    found = [
        event._asdict() | {"worker": endpoint.address}
        for pool in pools
        for endpoint in pool.endpoints
        for event in endpoint.events
    ]
    return sorted(found, key=lambda event: event["at_s"], reverse=True)[:MOST_EVENTS]
