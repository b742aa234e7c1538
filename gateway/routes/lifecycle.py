"""`POST /v1/models/load` and `POST /v1/models/unload`: models on request, not only on first use."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from fastapi import APIRouter
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response

from gateway.body import parse
from gateway.errors import json_response, shorten
from gateway.openapi import takes
from gateway.pool.calls import serving_error
from gateway.pool.endpoint import Endpoint
from gateway.presence import while_present
from gateway.request_context import context_of
from gateway.routes.models import state_name
from gateway.schemas.lifecycle import LoadRequest, UnloadRequest
from gateway.services import Services, services_of
from gateway.translate.common import keep_alive_seconds
from protos.errors import ModelNotFound, NotReady
from protos.y26hkx.v1 import worker_pb2

T = TypeVar("T")

router = APIRouter()


@router.post("/v1/models/load", openapi_extra=takes(LoadRequest))
async def load_model(request: Request) -> Response:
    """Load a model on every worker that has it; answers when it is ready or has failed."""
    services = services_of(request)
    body = await parse(request, LoadRequest)
    message = worker_pb2.LoadModelRequest(
        model=body.model, keep_alive_s=keep_alive_seconds(body.keep_alive)
    )
    workers = _holders(services, body.model)
    states = await while_present(request, _on_all(workers, _load, message, request))
    return json_response({"model": body.model, "state": states[0], "n_workers": len(states)})


@router.post("/v1/models/unload", openapi_extra=takes(UnloadRequest))
async def unload_model(request: Request) -> Response:
    """Unload a model everywhere, after its running requests; says what came back, measured."""
    services = services_of(request)
    body = await parse(request, UnloadRequest)
    message = worker_pb2.UnloadModelRequest(model=body.model)
    workers = _holders(services, body.model)
    freed = await while_present(request, _on_all(workers, _unload, message, request))
    return json_response({"model": body.model, "state": "unloaded", "freed_bytes": sum(freed)})


def _holders(services: Services, model: str) -> list[Endpoint]:
    serving = [*services.pool.chat.serving, *services.pool.embed.serving]
    if not serving:
        raise NotReady("no worker can be reached", retry_after_s=2)
    found = [endpoint for endpoint in serving if endpoint.lists(model)]
    if not found:
        raise ModelNotFound(f"the model {shorten(model)!r} does not exist", param="model")
    return found


async def _on_all(
    workers: list[Endpoint],
    call: Callable[[Endpoint, Message, Any], Awaitable[T]],
    message: Message,
    request: Request,
) -> list[T]:
    """The results of `call` on each worker; the first failure counts."""
    timeout_s = services_of(request).settings.stream_timeout_s
    own_id = ("x-request-id", context_of(request.scope).request_id)
    try:
        return await asyncio.gather(
            *(
                call(
                    worker, message, {"metadata": (*worker.metadata, own_id), "timeout": timeout_s}
                )
                for worker in workers
            )
        )
    except grpc.aio.AioRpcError as error:
        raise serving_error(error) from None


async def _load(worker: Endpoint, message: Message, options: Any) -> str:
    state = worker_pb2.MODEL_STATE_UNSPECIFIED
    call = worker.worker.LoadModel(message, **options)
    try:
        async for progress in call:
            state = progress.state
    finally:
        call.cancel()
    return state_name(state)


async def _unload(worker: Endpoint, message: Message, options: Any) -> int:
    reply: worker_pb2.UnloadModelResponse = await worker.worker.UnloadModel(message, **options)
    return reply.freed_bytes
