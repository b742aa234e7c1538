"""`POST /v1/messages` and `POST /v1/messages/count_tokens`: Anthropic's API."""

import secrets

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import json_response
from gateway.openapi import takes
from gateway.routes.generation import CountedGeneration
from gateway.routes.ignored_header import header_of_names
from gateway.routes.named_model import parse_for_model
from gateway.routes.unary import count_input_tokens
from gateway.schemas.messages import CountTokensRequest, MessagesRequest, without_effect
from gateway.services import services_of
from gateway.translate.messages_reply import MessageEvents, collect
from gateway.translate.messages_request import generate_request, template_request
from gateway.transport.disconnect import cancel_on_disconnect
from gateway.transport.sse import EventStream, named_frame

router = APIRouter()
NAMES = {
    "enable_thinking": "thinking",
    "thinking_budget": "thinking.budget_tokens",
    "response_format": "output_config.format",
    "strict": "tools.strict",
}


@router.post("/v1/messages", openapi_extra=takes(MessagesRequest, streams=True))
async def messages(request: Request) -> Response:
    """Answer a conversation, whole or as server-sent events."""
    services = services_of(request)
    body = await parse_for_model(request, MessagesRequest)
    limits = services.stream_limits if body.stream else services.plain_limits
    call = CountedGeneration(request, services, body, limits, without_effect(body), NAMES)
    message = generate_request(body, services.defaults_of(body.model), call.context.cache_salt)
    reply_id = f"msg_{secrets.token_hex(12)}"
    if not body.stream:
        events = await cancel_on_disconnect(request, call.generation.collect(message))
        return json_response(collect(reply_id, events), headers=call.header_dict())
    source = call.generation.events(message, MessageEvents(reply_id).of)
    waiting, headers = call.waiting, call.headers
    return EventStream(source, services.sse_limits, waiting, headers, named_frame, done=b"")


@router.post("/v1/messages/count_tokens", openapi_extra=takes(CountTokensRequest))
async def count_tokens(request: Request) -> Response:
    """Count the input tokens of a conversation; nothing is generated."""
    body = await parse_for_model(request, CountTokensRequest)
    n_tokens = await count_input_tokens(request, template_request(body))
    ignored = header_of_names(without_effect(body))
    headers = {"x-ignored-parameters": ignored} if ignored else None
    return json_response({"input_tokens": n_tokens}, headers=headers)
