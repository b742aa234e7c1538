"""Errors of workers: each arrives whole, with its status, early or in mid-stream."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from common import errors
from common.errors import ServingError, error_types
from protos.y26hkx.v1 import chat_pb2, embed_pb2
from tests.contract.failures import BODY, CHAT, EMBED, last_event, raising, told
from tests.contract.running_gateway import RunningGateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import delta, started

STATUS = {
    "invalid_request": 400,
    "context_length_exceeded": 400,
    "unsupported_parameter": 400,
    "request_too_large": 413,
    "unsupported_encoding": 415,
    "content_filter": 400,
    # A worker that refuses the gateway's token is no fault of the client's key.
    "invalid_api_key": 500,
    "permission_denied": 403,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "key_not_found": 404,
    "batch_not_found": 404,
    "previous_response_not_found": 400,
    "model_not_found": 404,
    "response_not_found": 404,
    "overloaded": 429,
    "model_in_use": 409,
    "download_failed": 502,
    "disk_full": 507,
    "BACKEND_LOAD_FAILED": 503,
    "not_ready": 503,
    "worker_lost": 503,
    "timeout": 504,
    "cancelled": 499,
    "backend_failure": 500,
}


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


async def test_counts_of_tokens_in_an_error_are_numbers(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    counts = {"input_tokens": "2004", "max_input_tokens": "192", "rule": "42"}
    worker.generate = raising(errors.ContextLengthExceeded("too long", metadata=counts))
    error = told(await gateway.http.post(CHAT, json=BODY))
    assert (error["input_tokens"], error["max_input_tokens"], error["rule"]) == (2004, 192, "42")


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
