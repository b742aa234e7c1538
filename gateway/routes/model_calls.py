"""Calls about one model, to every worker that has it: load, unload, and what changed by that."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import grpc
from starlette.requests import Request

from common.error_texts import ErrorText
from common.errors import ModelNotFound, NotReady
from common.rpc_limits import REQUEST_ID_KEY
from gateway.errors import shorten
from gateway.middleware.request_context import context_of
from gateway.pool.call_errors import serving_error
from gateway.pool.endpoint import Endpoint
from gateway.pool.loading import load_everywhere
from gateway.services import Services, services_of
from protos.y26hkx.v1 import worker_pb2


def holders(services: Services, model: str) -> list[Endpoint]:
    """The serving workers that list the model.

    Raises:
        NotReady: no worker serves.
        ModelNotFound: none of them lists it.
    """
    serving = [*services.pool.chat.serving, *services.pool.embed.serving]
    if not serving:
        raise NotReady(ErrorText("no_worker_reached"), retry_after_s=2)
    found = [endpoint for endpoint in serving if endpoint.lists(model)]
    if not found:
        raise ModelNotFound(ErrorText("model_not_found", model=shorten(model)), param="model")
    return found


def load(
    request: Request, workers: list[Endpoint], model: str, keep_alive_s: float | None
) -> AsyncGenerator[worker_pb2.LoadProgress, None]:
    """The progress of a load; ends when the model is ready. Raises the first failure."""
    message = worker_pb2.LoadModelRequest(model=model, keep_alive_s=keep_alive_s)
    return load_everywhere(workers, message, lambda worker: _options(request, worker))


async def unload(
    request: Request, workers: list[Endpoint], model: str, *, force: bool
) -> list[worker_pb2.UnloadModelResponse]:
    """
    Args:
        force: end the requests that run, instead of waiting for them.
    """
    message = worker_pb2.UnloadModelRequest(model=model, force=force)
    calls = [worker.worker.UnloadModel(message, **_options(request, worker)) for worker in workers]
    freed: list[worker_pb2.UnloadModelResponse] = await _all(calls)
    return freed


async def refresh_models(request: Request, workers: list[Endpoint]) -> None:
    """Update the status of the models, so that the next list of models shows the change."""
    asked = worker_pb2.ListModelsRequest()
    known = await _all([w.worker.ListModels(asked, **_options(request, w)) for w in workers])
    for worker, reply in zip(workers, known, strict=True):
        worker.hear_models(reply.models)


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
