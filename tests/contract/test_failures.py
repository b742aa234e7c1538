"""Workers that refuse, break, stall or vanish: what clients are told, and what is tried again."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from protos import errors
from protos.errors import ServingError, error_types
from protos.y26hkx.v1 import chat_pb2, embed_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway, until
from tests.contract.scripted_worker import (
    ScriptedWorker,
    count_up,
    delta,
    finished,
    queued,
    started,
)

CHAT, EMBED = "/v1/chat/completions", "/v1/embeddings"
BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
STATUS = {
    "invalid_request": 400,
    "context_length_exceeded": 400,
    "unsupported_parameter": 400,
    "request_too_large": 413,
    # A worker that refuses the gateway's token is no fault of the client's key.
    "invalid_api_key": 500,
    "permission_denied": 403,
    "rate_limit_exceeded": 429,
    "model_not_found": 404,
    "overloaded": 429,
    "BACKEND_LOAD_FAILED": 503,
    "not_ready": 503,
    "worker_lost": 503,
    "timeout": 504,
    "cancelled": 499,
    "backend_failure": 500,
}


def raising(error: ServingError) -> Any:
    async def generate(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        raise error
        yield  # a generator

    return generate


def told(reply: Any) -> dict[str, Any]:
    error: dict[str, Any] = reply.json()["error"]
    return error


def last_event(text: str) -> dict[str, Any]:
    lines = [line for line in text.split("\n\n") if line.startswith("data: ")]
    event: dict[str, Any] = json.loads(lines[-1][6:])
    return event


def test_every_error_has_a_status_here() -> None:
    assert {kind.code for kind in error_types()} == set(STATUS)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", list(error_types()), ids=lambda kind: str(kind.__name__))
async def test_every_error_of_a_worker_arrives_whole(
    gateway: RunningGateway, worker: ScriptedWorker, kind: type[ServingError], stream: bool
) -> None:
    worker.generate = raising(
        kind(
            "what went wrong",
            param="messages[0].content",
            retry_after_s=7.2,
            suggestions=("do this",),
            metadata={"backend": "llama.cpp"},
        )
    )
    reply = await gateway.http.post(CHAT, json=BODY | {"stream": stream})
    assert reply.status_code == STATUS[kind.code], reply.text
    if kind is errors.AuthenticationFailed:
        assert told(reply)["code"] == "backend_failure"
        return
    error = told(reply)
    assert error["message"] == "what went wrong"
    assert error["code"] == kind.code
    assert error["param"] == "messages[0].content"
    assert error["suggestions"] == ["do this"]
    assert error["backend"] == "llama.cpp"
    assert reply.headers["retry-after"] == "8"


async def test_a_load_failure_is_of_type_resource(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = raising(errors.BackendLoadFailed("too big"))
    reply = await gateway.http.post(CHAT, json=BODY)
    assert told(reply)["type"] == "resource"
    assert reply.headers["x-should-retry"] == "false"


async def test_a_wait_longer_than_sdks_take_is_not_worth_retrying(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = raising(errors.RateLimited("later", retry_after_s=3600))
    reply = await gateway.http.post(CHAT, json=BODY)
    assert reply.headers["x-should-retry"] == "false"


async def test_native_text_of_a_broken_worker_is_not_passed_on(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def breaks(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        raise RuntimeError("secret /path/of/model")
        yield  # a generator

    worker.generate = breaks
    reply = await gateway.http.post(CHAT, json=BODY)
    assert reply.status_code == 500
    assert "secret" not in reply.text


async def test_an_error_in_mid_stream_is_an_event_and_no_done(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def breaks(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        yield delta("x")
        raise errors.WorkerLost("the engine died", retry_after_s=1)

    worker.generate = breaks
    reply = await gateway.http.post(CHAT, json=BODY | {"stream": True})
    assert reply.status_code == 200
    assert "[DONE]" not in reply.text
    error = last_event(reply.text)["error"]
    assert error["code"] == "worker_lost"
    assert error["request_id"] == reply.headers["x-request-id"]
    assert len(worker.calls) == 1, "an answer that has begun is never tried again"


async def test_an_answer_that_makes_no_sense_ends_with_an_event_too(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def nonsense(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        yield delta("x")
        end = chat_pb2.ChoiceEnd(choice=0, reason=77)  # type: ignore[arg-type]
        yield chat_pb2.GenerateEvent(finished=chat_pb2.Finished(choices=[end]))

    worker.generate = nonsense
    streamed = await gateway.http.post(CHAT, json=BODY | {"stream": True})
    assert "[DONE]" not in streamed.text
    assert last_event(streamed.text)["error"]["code"] == "backend_failure"
    assert (await gateway.http.post(CHAT, json=BODY)).status_code == 500


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
    async with running_gateway([worker], request_timeout_s=0.3) as gateway:
        for stream in (False, True):
            reply = await gateway.http.post(CHAT, json=BODY | {"stream": stream})
            assert reply.status_code == 504, reply.text
            assert told(reply)["code"] == "timeout"


async def test_an_early_end_without_finished_is_an_error(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def stops(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        yield delta("x")

    worker.generate = stops
    reply = await gateway.http.post(CHAT, json=BODY | {"stream": True})
    assert "[DONE]" not in reply.text
    assert last_event(reply.text)["error"]["code"] == "worker_lost"


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


async def test_a_request_is_tried_once_more_elsewhere_before_it_began() -> None:
    broken, sound = ScriptedWorker(raising(errors.NotReady("draining"))), ScriptedWorker()
    for scripted in (broken, sound):
        await scripted.start()
    try:
        async with running_gateway([broken, sound]) as gateway:
            for number in range(24):
                content = f"conversation {number}"
                body = BODY | {"messages": [{"role": "user", "content": content}]}
                assert (await gateway.http.post(CHAT, json=body)).status_code == 200
        assert broken.calls, "no conversation came to the broken worker first"
    finally:
        for scripted in (broken, sound):
            await scripted.stop()


async def test_a_request_is_not_tried_a_third_time() -> None:
    workers = [ScriptedWorker(raising(errors.Overloaded("full", retry_after_s=2))) for _ in "abc"]
    for scripted in workers:
        await scripted.start()
    try:
        async with running_gateway(workers) as gateway:
            reply = await gateway.http.post(CHAT, json=BODY)
            assert reply.status_code == 429
            assert reply.headers["retry-after"] == "2"
        assert sum(len(scripted.calls) for scripted in workers) == 2
    finally:
        for scripted in workers:
            await scripted.stop()


async def test_other_errors_are_not_tried_again() -> None:
    workers = [ScriptedWorker(raising(errors.BackendFailure("broken"))) for _ in "ab"]
    for scripted in workers:
        await scripted.start()
    try:
        async with running_gateway(workers) as gateway:
            assert (await gateway.http.post(CHAT, json=BODY)).status_code == 500
        assert sum(len(scripted.calls) for scripted in workers) == 1
    finally:
        for scripted in workers:
            await scripted.stop()


async def test_a_vanished_worker_is_a_503_and_a_returned_one_serves(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    await worker.stop()
    for path, body in ((CHAT, BODY), (EMBED, {"input": "x"})):
        reply = await gateway.http.post(path, json=body)
        assert reply.status_code == 503, reply.text
        assert int(reply.headers["retry-after"]) >= 1
    await until(lambda: not gateway.services.pool.chat.serving)
    assert (await gateway.http.get("/health/ready")).status_code == 503
    assert (await gateway.http.get("/health/live")).status_code == 200
    await worker.start(worker.port)
    await until(lambda: bool(gateway.services.pool.chat.serving))
    assert (await gateway.http.post(CHAT, json=BODY)).status_code == 200


async def test_a_worker_killed_in_mid_stream_is_an_error_event(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def hangs(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        yield delta("x")
        await asyncio.Event().wait()

    worker.generate = hangs
    async with gateway.http.stream("POST", CHAT, json=BODY | {"stream": True}) as reply:
        lines = reply.aiter_lines()
        await anext(lines)
        await worker.stop()
        rest = [line async for line in lines if line]
    assert json.loads(rest[-1][6:])["error"]["code"] == "worker_lost"


async def test_errors_of_embeddings_and_of_reload_arrive_whole(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def refuses(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
        raise errors.ModelNotFound("no such model", param="model")

    worker.embed = refuses
    reply = await gateway.http.post(EMBED, json={"input": "x", "model": "nope"})
    assert reply.status_code == 404
    assert told(reply)["code"] == "model_not_found"
    worker.rescan_error = errors.NotReady("starting", retry_after_s=3)
    reply = await gateway.http.post("/v1/reload-embeddings")
    assert reply.status_code == 503
    assert told(reply)["code"] == "not_ready"


async def test_failures_are_counted_also_of_streams_and_refusals(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def breaks(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        raise errors.WorkerLost("died")

    worker.generate = breaks
    await gateway.http.post(CHAT, json=BODY | {"stream": True})
    await gateway.http.post(CHAT, content=b"x" * (3 << 20))
    page = (await gateway.http.get("/metrics")).text
    assert 'y26hkx_errors_total{kind="unavailable"} 1.0' in page
    assert 'y26hkx_errors_total{kind="validation"} 1.0' in page


async def test_nothing_is_left_counted_when_requests_are_over(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    await asyncio.gather(*(gateway.http.post(CHAT, json=BODY) for _ in range(8)))
    worker.generate = raising(errors.BackendFailure("broken"))
    await asyncio.gather(*(gateway.http.post(CHAT, json=BODY) for _ in range(8)))
    (endpoint,) = gateway.services.pool.chat.endpoints
    assert endpoint.n_outstanding == 0
