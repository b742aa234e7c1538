"""`POST /v1/chat/completions`."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import json_response
from gateway.openapi import takes
from gateway.routes.generation import CountedGeneration, new_id
from gateway.routes.named_model import parse_for_model
from gateway.schemas.chat import ChatRequest, without_effect
from gateway.services import services_of
from gateway.translate.chat_reply import ChatChunks, collect
from gateway.translate.chat_request import generate_request
from gateway.translate.timings import ReplyTimings
from gateway.transport.disconnect import cancel_on_disconnect
from gateway.transport.sse import EventStream

router = APIRouter()
NAMES = {
    name: f"chat_template_kwargs.{name}"
    for name in ("enable_thinking", "thinking", "thinking_budget")
} | {"strict": "tools.function.strict"}


@router.post("/v1/chat/completions", openapi_extra=takes(ChatRequest, streams=True))
@router.post("/chat/completions", include_in_schema=False)
async def chat_completions(request: Request) -> Response:
    """Answer a conversation, whole or as server-sent events."""
    services = services_of(request)
    body = await parse_for_model(request, ChatRequest)
    limits = services.stream_limits if body.stream else services.plain_limits
    call = CountedGeneration(request, services, body, limits, without_effect(body), NAMES)
    message = generate_request(body, services.defaults_of(body.model), call.context.cache_salt)
    logprobs = bool(body.logprobs)
    timings = ReplyTimings() if body.timings_per_token else None
    if not body.stream:
        events = await cancel_on_disconnect(request, call.generation.collect(message))
        reply_id = new_id("chatcmpl")
        reply = collect(reply_id, events, message.n, logprobs=logprobs, timings=timings)
        return json_response(reply, headers=call.header_dict())
    with_usage = bool(body.stream_options and body.stream_options.include_usage)
    chunks = ChatChunks(
        new_id("chatcmpl"), message.n, logprobs=logprobs, with_usage=with_usage, timings=timings
    )
    source = call.generation.events(message, chunks.of)
    return EventStream(source, services.sse_limits, call.waiting, call.headers)
