"""`POST /v1/models/load` and `POST /v1/models/unload`: loading and unloading on request."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc
import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from common.error_texts import ErrorText
from common.errors import ModelNotFound, NotReady
from common.model_ids import same_model_id
from common.rpc_limits import REQUEST_ID_KEY
from gateway.errors import json_response, shorten
from gateway.middleware.body import parse
from gateway.middleware.request_context import context_of
from gateway.openapi import takes
from gateway.pool.call_errors import serving_error
from gateway.pool.endpoint import Endpoint
from gateway.pool.loading import load_everywhere
from gateway.routes.models import described, state_name
from gateway.routes.named_model import is_listed
from gateway.schemas.lifecycle import LoadRequest, UnloadRequest
from gateway.services import Services, services_of
from gateway.translate.progress import SILENCE
from gateway.transport.disconnect import cancel_on_disconnect
from gateway.transport.sse import EventStream
from protos.y26hkx.v1 import worker_pb2

# The facts about the model that a finished load reports.
FACTS = (
    "backend",
    "context_length",
    "chat_template",
    "resident_bytes",
    "memory",
    "pinned",
    "expires_in_seconds",
    "reductions",
    "served_by",
)

router = APIRouter()


@router.post("/v1/models/load", openapi_extra=takes(LoadRequest, streams=True))
async def load_model(request: Request) -> Response:
    """Load a model on every worker that has it. The response comes when it is ready or has failed;
    with `stream` the progress comes as server-sent events."""
    services = services_of(request)
    body = await parse(request, LoadRequest)
    if not is_listed(services, meant(services, body.model)):
        await services.new_models.look(body.model)
    body.model = meant(services, body.model)
    context_of(request.scope).acted_on["model"] = body.model
    workers = holders(services, body.model)
    events = load(request, workers, body)
    if not body.stream:
        return json_response(await cancel_on_disconnect(request, _last(events)))
    source = (orjson.dumps(event) async for event in events)
    return EventStream(source, services.sse_limits, lambda: SILENCE, list)


@router.post("/v1/models/unload", openapi_extra=takes(UnloadRequest))
async def unload_model(request: Request) -> Response:
    """Unload a model on every worker, after its running requests or, with `force`, by ending them.
    Report how many those were, and the freed memory."""
    body = await parse(request, UnloadRequest)
    services = services_of(request)
    body.model = meant(services, body.model)
    context_of(request.scope).acted_on["model"] = body.model
    workers = holders(services, body.model)
    freed = await unload_everywhere(request, workers, body.model, force=bool(body.force))
    n_running = sum(one.n_running for one in freed)
    reply = {
        "model": _own_id(workers[0], body.model),
        "state": "unloaded",
        "freed_bytes": sum(one.freed_bytes for one in freed),
        "regained_bytes": sum(one.regained_bytes for one in freed),
        "waited_for": 0 if body.force else n_running,
        "ended": n_running if body.force else 0,
    }
    return json_response(reply)


async def unload_everywhere(
    request: Request, workers: list[Endpoint], model: str, *, force: bool
) -> list[worker_pb2.UnloadModelResponse]:
    """Unload a model on these workers; returns what each freed."""
    message = worker_pb2.UnloadModelRequest(model=model, force=force)
    calls = [worker.worker.UnloadModel(message, **_options(request, worker)) for worker in workers]
    freed = await cancel_on_disconnect(request, _all(calls))
    await refresh_models(request, workers)
    return freed


def meant(services: Services, model: str) -> str:
    """The model's id; a name that nobody knows is never another model's."""
    return services.model_names.known(model, lambda each: is_listed(services, each)) or model


def holders(services: Services, model: str) -> list[Endpoint]:
    """The workers that list the model.

    Raises:
        NotReady: no worker serves.
        ModelNotFound: none lists it.
    """
    serving = [*services.pool.chat.serving, *services.pool.embed.serving]
    if not serving:
        raise NotReady(ErrorText("no_worker_reached"), retry_after_s=2)
    found = [endpoint for endpoint in serving if endpoint.lists(model)]
    if not found:
        raise ModelNotFound(ErrorText("model_not_found", model=shorten(model)), param="model")
    return found


async def load(
    request: Request, workers: list[Endpoint], body: LoadRequest
) -> AsyncGenerator[dict[str, Any], None]:
    """The progress, and at last the facts about the loaded model."""
    message = worker_pb2.LoadModelRequest(
        model=body.model,
        keep_alive_s=body.keep_alive,
        context_length=body.context_length,
        force=bool(body.force),
    )
    began_s = time.perf_counter()
    model = _own_id(workers[0], body.model)
    progresses = load_everywhere(workers, message, lambda worker: _options(request, worker))
    async with aclosing(progresses):
        async for progress in progresses:
            if progress.state != worker_pb2.MODEL_STATE_READY:
                yield {
                    "model": model,
                    "state": state_name(progress.state),
                    "fraction": round(progress.fraction, 3),
                    "stage": progress.stage,
                }
    seconds = round(time.perf_counter() - began_s, 3)
    await refresh_models(request, workers)
    now = described(next(found for found in workers[0].models() if found.id == model))
    facts = {name: now[name] for name in FACTS if name in now}
    end = {"model": model, "state": "ready", "n_workers": len(workers), "seconds": seconds}
    yield end | facts


async def refresh_models(request: Request, workers: list[Endpoint]) -> None:
    """Update the status of the models, so that the next `GET /v1/models` shows the change."""
    asked = worker_pb2.ListModelsRequest()
    known = await _all([w.worker.ListModels(asked, **_options(request, w)) for w in workers])
    for worker, reply in zip(workers, known, strict=True):
        worker.hear_models(reply.models)


async def _last(events: AsyncGenerator[dict[str, Any], None]) -> dict[str, Any]:
    last: dict[str, Any] = {}
    async with aclosing(events):
        async for event in events:
            last = event
    return last


async def _all(calls: list[Any]) -> list[Any]:
    """The replies to all calls; the first failure is raised."""
    try:
        return await asyncio.gather(*calls)
    except grpc.aio.AioRpcError as error:
        raise serving_error(error) from None


def _options(request: Request, worker: Endpoint) -> dict[str, Any]:
    own_id = (REQUEST_ID_KEY, context_of(request.scope).request_id)
    timeout_s = services_of(request).settings.stream_timeout_s
    return {"metadata": (*worker.metadata, own_id), "timeout": timeout_s}


def _own_id(worker: Endpoint, model: str) -> str:
    """The model's id as its worker writes it."""
    return next(m.id for m in worker.status.models if same_model_id(m.id, model))
