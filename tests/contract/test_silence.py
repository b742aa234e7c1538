"""Workers that say nothing: how long clients wait, and what they are told meanwhile."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from common import errors
from protos.y26hkx.v1 import chat_pb2
from tests.contract.failures import BODY, CHAT, last_event, told
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import count_up, delta, finished, queued, started


@pytest.mark.parametrize("stream", [False, True])
async def test_a_worker_that_falls_silent_is_given_up_with_an_error(
    worker: ScriptedWorker, stream: bool
) -> None:
    async def stalls(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        yield delta("x")
        await asyncio.Event().wait()

    worker.generate = stalls
    async with running_gateway([worker], next_token_timeout_s=0.2) as gateway:
        reply = await gateway.http.post(CHAT, json=BODY | {"stream": stream})
        error = last_event(reply.text)["error"] if stream else told(reply)
        assert error["code"] == "timeout"
        assert reply.status_code == (200 if stream else 504)
        await asyncio.wait_for(worker.calls[0].cancelled.wait(), 5)


async def test_a_long_prefill_has_the_first_tokens_time_not_the_next_ones(
    worker: ScriptedWorker,
) -> None:
    prefilled = asyncio.Event()

    async def prefills(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        await prefilled.wait()
        yield delta("x")
        yield finished(1)

    worker.generate = prefills
    async with running_gateway([worker], next_token_timeout_s=0.05) as gateway:
        asking = asyncio.create_task(gateway.http.post(CHAT, json=BODY | {"stream": True}))
        await worker.next_call()
        await asyncio.sleep(0.3)  # six times the limit between two tokens
        prefilled.set()
        assert "[DONE]" in (await asking).text


async def test_a_worker_that_never_starts_is_given_up_with_its_status(
    worker: ScriptedWorker,
) -> None:
    async def never(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        await asyncio.Event().wait()
        yield started()

    worker.generate = never
    limits = {"request_timeout_s": 0.3, "first_token_timeout_s": 0.5}
    async with running_gateway([worker], **limits) as gateway:
        for stream in (False, True):
            reply = await gateway.http.post(CHAT, json=BODY | {"stream": stream})
            assert reply.status_code == 504, reply.text
            assert told(reply)["code"] == "timeout"
            assert ("within 0.5 s" in told(reply)["message"]) == stream
            assert "FIRST_TOKEN_TIMEOUT_SECONDS" in str(told(reply)["suggestions"])


async def test_queued_requests_hold_their_status_until_the_first_event(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def refuses(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield queued(3)
        raise errors.BackendLoadFailed("too big", retry_after_s=30)

    worker.generate = refuses
    reply = await gateway.http.post(CHAT, json=BODY | {"stream": True})
    assert reply.status_code == 503


async def test_a_long_wait_is_filled_with_comments_that_tell_the_position(
    worker: ScriptedWorker,
) -> None:
    go_on = asyncio.Event()

    async def waits(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield queued(3)
        await go_on.wait()
        async for event in count_up(request):
            yield event

    worker.generate = waits
    async with (
        running_gateway([worker], sse_comment_interval_s=0.1) as gateway,
        gateway.http.stream("POST", CHAT, json=BODY | {"stream": True}) as reply,
    ):
        lines = reply.aiter_lines()
        comment = await anext(lines)
        assert comment.startswith(":")
        assert "position 3" in comment or "position=3" in comment
        go_on.set()
        rest = [line async for line in lines]
    assert "data: [DONE]" in rest
