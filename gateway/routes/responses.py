"""`POST /v1/responses`: OpenAI's newer API."""

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from common.errors import InvalidRequest
from gateway.errors import json_response
from gateway.generation_stream import GenerationStream, Translate
from gateway.middleware.request_context import context_of
from gateway.openapi import takes
from gateway.routes import background
from gateway.routes.generation import CountedGeneration
from gateway.routes.named_model import parse_for_model
from gateway.routes.unary import count_input_tokens
from gateway.schemas.responses import ResponsesRequest, without_effect
from gateway.services import services_of
from gateway.translate.responses_reply import ResponseBuilder
from gateway.translate.responses_request import generate_request, param_name, template_request
from gateway.transport.disconnect import cancel_on_disconnect
from gateway.transport.sse import EventStream, named_frame
from protos.y26hkx.v1 import chat_pb2

router = APIRouter()
NAMES = {
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "strict": "tools.strict",
}


@router.post("/v1/responses", openapi_extra=takes(ResponsesRequest, streams=True))
@router.post("/responses", include_in_schema=False)
async def responses(request: Request) -> Response:
    """Answer a conversation, whole or as server-sent events, and keep the answer unless `store` is
    false. In the background it goes on without its client."""
    services = services_of(request)
    body = await parse_for_model(request, ResponsesRequest)
    limits = services.stream_limits if body.stream else services.plain_limits
    if body.background:
        limits = services.background_limits
    call = CountedGeneration(request, services, body, limits, without_effect(body), NAMES)
    owner = call.context.client
    own_input = await services.responses.with_history(owner, body)
    message = generate_request(body, services.defaults_of(body.model), call.context.cache_salt)
    reply = ResponseBuilder(secrets.token_hex(24), body, services.defaults_of(body.model))

    async def keep() -> dict[str, Any]:
        whole = reply.response()
        await services.responses.keep(owner, body, own_input, whole)
        return whole

    if not (body.stream or body.background):
        await cancel_on_disconnect(request, _exhaust(_events(call.generation, message, reply.take)))
        return json_response(await keep(), headers=call.header_dict())
    source = _kept(_events(call.generation, message, reply.stream), reply, keep)
    if body.background:
        return background.begin(request, body, reply, source, keep, call)
    return EventStream(
        source,
        services.sse_limits,
        call.waiting,
        call.headers,
        named_frame,
        done=b"",
        broken=reply.broken,
    )


@router.post("/v1/responses/input_tokens", openapi_extra=takes(ResponsesRequest))
async def input_tokens(request: Request) -> Response:
    """How many input tokens a request would have; nothing is generated."""
    body = await parse_for_model(request, ResponsesRequest)
    await services_of(request).responses.with_history(context_of(request.scope).client, body)
    n_tokens = await count_input_tokens(request, template_request(body))
    return json_response({"object": "response.input_tokens", "input_tokens": n_tokens})


async def _events(
    generation: GenerationStream, message: chat_pb2.GenerateRequest, translate: Translate
) -> AsyncGenerator[bytes, None]:
    """The relay's events; its complaints name fields as this API does."""
    try:
        async with aclosing(generation.events(message, translate)) as events:
            async for event in events:
                yield event
    except InvalidRequest as error:
        error.param = param_name(error.param)
        raise


async def _kept(
    events: AsyncGenerator[bytes, None],
    reply: ResponseBuilder,
    keep: Callable[[], Awaitable[object]],
) -> AsyncGenerator[bytes, None]:
    """The events; the response is kept before the client sees that it is whole."""
    async with aclosing(events):
        is_kept = False
        async for event in events:
            if reply.is_whole and not is_kept:
                await keep()
                is_kept = True
            yield event


async def _exhaust(source: AsyncGenerator[bytes, None]) -> None:
    async with aclosing(source) as events:
        async for _ in events:
            pass
