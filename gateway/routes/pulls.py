"""Models that come and go: `POST /v1/models/pull`, `DELETE /v1/models/{id}`, and rescans."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from common.error_texts import ErrorText
from common.errors import InvalidRequest, ModelInUse
from common.model_ids import same_model_id
from gateway.errors import json_response, shorten
from gateway.middleware.body import parse
from gateway.middleware.request_context import context_of
from gateway.openapi import takes
from gateway.pulls import remove
from gateway.routes.lifecycle import holders, meant, refresh_models, unload_everywhere
from gateway.schemas.pulls import CancelPullRequest, PullRequest
from gateway.services import Services, services_of
from gateway.translate.progress import SILENCE
from gateway.transport.disconnect import cancel_on_disconnect
from gateway.transport.sse import EventStream

YES, NO = ("true", "1"), ("false", "0", "")

router = APIRouter()


@router.post("/v1/models/pull", openapi_extra=takes(PullRequest, streams=True))
async def pull_model(request: Request) -> Response:
    """Download a model from a hub into the models folder. With `stream` the plan and the progress
    come as server-sent events; the download ends when the client leaves, and goes on at the next
    request for the same model."""
    services = services_of(request)
    body = await parse(request, PullRequest)
    context_of(request.scope).acted_on["model"] = body.model
    events = _pull(services, body)
    if not body.stream:
        return json_response(await cancel_on_disconnect(request, _last(events)))
    source = (orjson.dumps(event) async for event in events)
    return EventStream(source, services.sse_limits, lambda: SILENCE, list)


@router.post("/v1/models/pull/cancel", openapi_extra=takes(CancelPullRequest))
async def cancel_pull(request: Request) -> Response:
    """End a download that another request has begun; what has arrived stays."""
    body = await parse(request, CancelPullRequest)
    if not services_of(request).pulls.cancel(body.model):
        raise InvalidRequest(
            ErrorText("pull_not_running", name=shorten(body.model)),
            param="model",
            suggestions=tuple(services_of(request).pulls.names),
        )
    return json_response({"model": body.model, "cancelled": True})


@router.post("/v1/models/rescan")
async def rescan_models(request: Request) -> Response:
    """Scan the models folder again, on every worker."""
    services = services_of(request)
    found = await services.new_models.scan(services.settings.request_timeout_s)
    return json_response({"models": list({model.id: None for model in found})})


@router.delete("/v1/models/{model_id:path}")
async def delete_model(request: Request, model_id: str) -> Response:
    """Delete a model's files from the models folder. A model in use is refused; with `?force=true`
    its requests are ended."""
    return json_response(await delete_files(request, model_id, force=_is_forced(request)))


async def delete_files(request: Request, model_id: str, *, force: bool) -> dict[str, Any]:
    """What was deleted.

    Raises:
        ServingError: the model is in use and `force` is not set, or its files must stay.
    """
    services = services_of(request)
    services.pulls.require_on()
    await services.new_models.look(model_id)
    model = meant(services, model_id)
    context_of(request.scope).acted_on["model"] = model
    workers = holders(services, model)
    await refresh_models(request, workers)
    n_requests = sum(
        known.n_leases + known.n_waiting
        for worker in workers
        for known in worker.models()
        if same_model_id(known.id, model)
    )
    if n_requests and not force:
        raise ModelInUse(
            ErrorText("model_in_use", model=shorten(model), n=n_requests),
            param="model",
            retry_after_s=5,
            suggestions=(ErrorText("force_delete"),),
        )
    await unload_everywhere(request, workers, model, force=force)
    removed = await remove(model)
    await services.new_models.scan(services.settings.request_timeout_s)
    return {"id": model, "object": "model", "deleted": True} | removed


def _is_forced(request: Request) -> bool:
    value = request.query_params.get("force", "").lower()
    if value not in YES + NO:
        raise InvalidRequest(
            ErrorText("field_wrong", field="force", fault="true / false"), param="force"
        )
    return value in YES


async def _pull(services: Services, body: PullRequest) -> AsyncGenerator[dict[str, Any], None]:
    """The events of the download; the last comes when the model is served."""
    name = body.model.strip()
    events = services.pulls.events(name, force=bool(body.force), plan_only=bool(body.plan_only))
    async with aclosing(events):
        async for event in events:
            if event["status"] == "done":
                await services.new_models.scan(services.settings.request_timeout_s)
            yield event


async def _last(events: AsyncGenerator[dict[str, Any], None]) -> dict[str, Any]:
    last: dict[str, Any] = {}
    async with aclosing(events):
        async for event in events:
            last = event
    return last
