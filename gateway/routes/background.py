"""Answers with responses in the background, and with their events for clients that come back."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from common.errors import ServingError
from gateway.errors import error_body, json_response
from gateway.middleware.request_context import context_of
from gateway.routes.generation import CountedGeneration
from gateway.schemas.responses import ResponsesRequest
from gateway.services import services_of
from gateway.stored_responses.background import BackgroundResponse
from gateway.translate.progress import SILENCE
from gateway.translate.responses_reply import ResponseBuilder, stream_error
from gateway.transport.sse import EventStream, named_frame

Headers = list[tuple[bytes, bytes]]


def begin(
    request: Request,
    body: ResponsesRequest,
    reply: ResponseBuilder,
    source: AsyncGenerator[bytes, None],
    keep: Callable[[], Awaitable[object]],
    call: CountedGeneration,
) -> Response:
    """Begin a response in the background, and answer with it as it is or with its events.

    Raises:
        RateLimited, Overloaded: too many are in progress.
    """
    services, owner = services_of(request), call.context.client

    def describe(error: ServingError) -> dict[str, Any]:
        call.context.note_error(error)
        return error_body(error, request.scope)

    async def end(response: BackgroundResponse) -> None:
        if body.stream:
            await services.responses.keep_events(owner, reply.id, response.events)

    response = BackgroundResponse(reply, source, describe, keep, end)
    services.background.begin(owner, response)
    if body.stream:
        return _stream(request, response.follow(), call.generation.waiting, call.headers)
    return json_response(reply.response(), headers=call.header_dict())


async def follow(request: Request, id: str, after: int) -> Response:
    """Answer with the events of a response behind the one with the number `after`.

    Raises:
        ResponseNotFound: it is not stored, or belongs to another owner.
        InvalidRequest: it was not requested as a stream in the background.
    """
    services, owner = services_of(request), context_of(request.scope).client
    running = services.background.find(owner, id)
    if running is not None:
        return _stream(request, running.follow(after))
    events = await services.responses.events(owner, id)
    return _stream(request, _each(events[after + 1 :]))


async def _each(events: Sequence[bytes]) -> AsyncGenerator[bytes, None]:
    for event in events:
        yield event


def _stream(
    request: Request,
    events: AsyncGenerator[bytes, None],
    waiting: Callable[[], str] = lambda: SILENCE,
    headers: Callable[[], Headers] = list,
) -> EventStream:
    limits = services_of(request).sse_limits
    return EventStream(events, limits, waiting, headers, named_frame, done=b"", broken=stream_error)
