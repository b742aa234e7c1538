"""Unary calls on behalf of a request, which are cancelled when its client leaves."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.requests import Request

from gateway.middleware.request_context import context_of
from gateway.pool.calls import unary
from gateway.pool.endpoint import Endpoint
from gateway.pool.small_calls import small_unary
from gateway.pool.workers import Workers
from gateway.services import services_of
from gateway.transport.disconnect import cancel_on_disconnect
from protos.y26hkx.v1 import chat_pb2

T = TypeVar("T")


async def answer_from(
    request: Request,
    workers: Workers,
    model: str,
    send: Callable[[Endpoint, dict[str, Any]], Awaitable[T]],
    *,
    is_small: bool = False,
) -> T:
    """The answer of a worker.

    Args:
        send: makes the call on an endpoint, with keyword arguments for metadata and timeout.
        is_small: it takes about as long as others of its kind.
    """
    settings, request_id = services_of(request).settings, context_of(request.scope).request_id
    limit_s = settings.request_timeout_s
    if is_small:
        hedged = settings.hedge_embeddings
        call = small_unary(workers, model, request_id, limit_s, send, hedged=hedged)
    else:
        call = unary(workers, model, request_id, limit_s, send)
    return await cancel_on_disconnect(request, call)


async def count_input_tokens(request: Request, message: chat_pb2.ApplyTemplateRequest) -> int:
    """The number of tokens of a conversation in its model's template."""
    reply: chat_pb2.ApplyTemplateResponse = await answer_from(
        request,
        services_of(request).pool.chat,
        message.model,
        lambda endpoint, options: endpoint.chat.ApplyTemplate(message, **options),
    )
    return reply.n_tokens
