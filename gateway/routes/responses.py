"""`POST /v1/responses`: OpenAI's newer API, without its memory."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from common.errors import InvalidRequest
from gateway.body import parse
from gateway.errors import json_response
from gateway.openapi import takes
from gateway.pool.calls import unary
from gateway.presence import while_present
from gateway.relay import Relay, Translate
from gateway.request_context import context_of
from gateway.request_route import RequestRoute
from gateway.routes.generation import Call
from gateway.schemas.responses import ResponsesRequest, without_effect
from gateway.services import services_of
from gateway.sse import EventStream, named_frame
from gateway.translate.responses_reply import Reply
from gateway.translate.responses_request import generate_request, param_name, template_request
from protos.y26hkx.v1 import chat_pb2

router = APIRouter(route_class=RequestRoute)
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
    body = await parse(request, ResponsesRequest)
    limits = services.stream_limits if body.stream else services.plain_limits
    call = Call(request, services, body, limits, without_effect(body), NAMES)
    message = generate_request(body, services.chat_defaults, call.context.cache_salt)
    reply = Reply(secrets.token_hex(24), body, services.chat_defaults)
    if not body.stream:
        await while_present(request, _exhaust(_events(call.relay, message, reply.take)))
        return json_response(reply.response(), headers=call.header_dict())
    return EventStream(
        _events(call.relay, message, reply.stream),
        services.sse_limits,
        call.relay.waiting,
        call.headers,
        named_frame,
        done=b"",
        broken=reply.broken,
    )


@router.post("/v1/responses/input_tokens", openapi_extra=takes(ResponsesRequest))
async def input_tokens(request: Request) -> Response:
    """How many input tokens a request would have; nothing is generated."""
    services = services_of(request)
    body = await parse(request, ResponsesRequest)
    message = template_request(body)
    call = unary(
        services.pool.chat,
        message.model,
        context_of(request.scope).request_id,
        services.settings.request_timeout_s,
        lambda endpoint, options: endpoint.chat.ApplyTemplate(message, **options),
    )
    counted = await while_present(request, call)
    return json_response({"object": "response.input_tokens", "input_tokens": counted.n_tokens})


async def _events(
    relay: Relay, message: chat_pb2.GenerateRequest, translate: Translate
) -> AsyncGenerator[bytes, None]:
    """The relay's events; its complaints name fields as this API does."""
    try:
        async with aclosing(relay.events(message, translate)) as events:
            async for event in events:
                yield event
    except InvalidRequest as error:
        error.param = param_name(error.param)
        raise


async def _exhaust(source: AsyncGenerator[bytes, None]) -> None:
    async with aclosing(source) as events:
        async for _ in events:
            pass
