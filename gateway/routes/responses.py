"""`POST /v1/responses`: OpenAI's newer API, without its memory."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from common.errors import InvalidRequest
from gateway.errors import json_response
from gateway.generation_stream import GenerationStream, Translate
from gateway.openapi import takes
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


@router.post("/v1/responses", openapi_extra=takes(ResponsesRequest))
@router.post("/responses", include_in_schema=False)
async def responses(request: Request) -> Response:
    """Answer a conversation, whole or as server-sent events; nothing is stored."""
    services = services_of(request)
    body = await parse_for_model(request, ResponsesRequest)
    limits = services.stream_limits if body.stream else services.plain_limits
    call = CountedGeneration(request, services, body, limits, without_effect(body), NAMES)
    message = generate_request(body, services.chat_defaults, call.context.cache_salt)
    reply = ResponseBuilder(secrets.token_hex(24), body, services.chat_defaults)
    if not body.stream:
        await cancel_on_disconnect(request, _exhaust(_events(call.generation, message, reply.take)))
        return json_response(reply.response(), headers=call.header_dict())
    return EventStream(
        _events(call.generation, message, reply.stream),
        services.sse_limits,
        call.generation.waiting,
        call.headers,
        named_frame,
        done=b"",
        broken=reply.broken,
    )


@router.post("/v1/responses/input_tokens", openapi_extra=takes(ResponsesRequest))
async def input_tokens(request: Request) -> Response:
    """How many input tokens a request would have; nothing is generated."""
    body = await parse_for_model(request, ResponsesRequest)
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


async def _exhaust(source: AsyncGenerator[bytes, None]) -> None:
    async with aclosing(source) as events:
        async for _ in events:
            pass
