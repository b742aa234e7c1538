"""`POST /v1/completions`."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import json_response
from gateway.generation_stream import GenerationStream
from gateway.openapi import takes
from gateway.routes.generation import CountedGeneration, new_id
from gateway.routes.named_model import parse_for_model
from gateway.schemas.completions import CompletionRequest
from gateway.services import services_of
from gateway.translate.completions import Completion, generate_requests
from gateway.transport.disconnect import cancel_on_disconnect
from gateway.transport.sse import EventStream
from protos.y26hkx.v1 import chat_pb2

router = APIRouter()

# Limited, so that a list of prompts does not fill the queue of a worker.
PROMPTS_AT_ONCE = 8


@router.post("/v1/completions", openapi_extra=takes(CompletionRequest, streams=True))
@router.post("/completions", include_in_schema=False)
async def completions(request: Request) -> Response:
    """Continue one or more bare prompts, whole or as server-sent events."""
    services = services_of(request)
    body = await parse_for_model(request, CompletionRequest)
    limits = services.stream_limits if body.stream else services.plain_limits
    call = CountedGeneration(request, services, body, limits)
    messages = generate_requests(body, services.defaults_of(body.model), call.context.cache_salt)
    completion = Completion(
        new_id("cmpl"),
        body.n or 1,
        logprobs=body.logprobs is not None,
        with_usage=bool(body.stream_options and body.stream_options.include_usage),
        with_timings=bool(body.timings_per_token),
    )
    if body.stream:
        source = _chunks(call.generation, messages, completion)
        return EventStream(source, services.sse_limits, call.waiting, call.headers)
    calls = await cancel_on_disconnect(request, _all(call.generation, messages))
    return json_response(completion.collect(calls), headers=call.header_dict())


async def _all(
    generation: GenerationStream, messages: list[chat_pb2.GenerateRequest]
) -> list[list[chat_pb2.GenerateEvent]]:
    """The events of all prompts, a few prompts at a time; the first failure ends the others."""
    await generation.check(messages)
    places = asyncio.Semaphore(PROMPTS_AT_ONCE)

    async def collect(message: chat_pb2.GenerateRequest) -> list[chat_pb2.GenerateEvent]:
        async with places:
            return await generation.collect(message)

    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(collect(message)) for message in messages]
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    return [task.result() for task in running]


async def _chunks(
    generation: GenerationStream, messages: list[chat_pb2.GenerateRequest], completion: Completion
) -> AsyncGenerator[bytes, None]:
    """The chunks of one prompt after the other, each with its own choice indices."""
    await generation.check(messages)
    for prompt, message in enumerate(messages):
        translate = partial(completion.chunks, prompt=prompt)
        async with aclosing(generation.events(message, translate)) as events:
            async for event in events:
                yield event
    if (last := completion.last_chunk()) is not None:
        yield last
