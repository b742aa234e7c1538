"""`POST /infill`: the text between a prefix and a suffix, as llama-server offers it."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import json_response
from gateway.openapi import takes
from gateway.routes.generation import CountedGeneration
from gateway.routes.named_model import parse_for_model
from gateway.schemas.infill import InfillRequest, without_effect
from gateway.services import services_of
from gateway.translate.infill import Infilled, infill_request
from gateway.transport.disconnect import cancel_on_disconnect
from gateway.transport.sse import EventStream

router = APIRouter()


@router.post("/infill", openapi_extra=takes(InfillRequest, streams=True))
async def infill(request: Request) -> Response:
    """Write what is missing between two texts, whole or as server-sent events."""
    services = services_of(request)
    body = await parse_for_model(request, InfillRequest)
    limits = services.stream_limits if body.stream else services.plain_limits
    call = CountedGeneration(request, services, body, limits, without_effect(body))
    message = infill_request(body, services.defaults_of(body.model), call.context.cache_salt)
    reply = Infilled(with_timings=bool(body.timings_per_token))
    if not body.stream:
        events = await cancel_on_disconnect(request, call.generation.collect(message))
        return json_response(reply.collect(events), headers=call.header_dict())
    source = call.generation.events(message, reply.events)
    return EventStream(source, services.sse_limits, call.waiting, call.headers, done=b"")
