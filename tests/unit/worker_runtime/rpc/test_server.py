"""Calls of a worker's server: their errors, ids, tokens and deadlines, and where it may listen."""

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from protos.y26hkx.v1 import chat_pb2, worker_pb2
from tests.unit.worker_runtime.rpc.running_server import (
    BOUND_S,
    LONG,
    POSIX_ONLY,
    error_of,
    refusal,
    tokenize,
    worker,
)
from worker_runtime.settings import RuntimeSettings

pytestmark = pytest.mark.timeout(60)


@POSIX_ONLY
async def test_errors_of_servicers_cross_grpc_whole_and_bugs_without_their_text() -> None:
    async with worker() as made:
        refused = await refusal(tokenize(made, "refuse"))
        assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
        error = error_of(refused)
        assert isinstance(error, InvalidRequest)
        assert (error.message, error.param) == ("no such text", "text")
        known = error_of(await refusal(tokenize(made, "known")))
        assert isinstance(known, InvalidRequest)
        assert isinstance(known.message, ErrorText)
        # Where ids and fields would be too much beside it, the English is there.
        long = error_of(await refusal(tokenize(made, "long")))
        assert isinstance(long, InvalidRequest)
        assert (long.message, long.suggestions) == (
            f"the role must be one of {LONG}",
            ("send the content as text",),
        )
        assert not isinstance(long.message, ErrorText)
        bug = await refusal(tokenize(made, "bug"))
        assert bug.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in str(bug)
        stray = await refusal(tokenize(made, "stray"))
        assert stray.code() is grpc.StatusCode.INTERNAL


@POSIX_ONLY
async def test_the_request_id_is_known_within_the_call() -> None:
    async with worker() as made:
        reply = await tokenize(made, "hello")()
        assert reply.pieces == [b"req-1"]
        reply = await tokenize(made, "hello", metadata=(("x-request-id", "a b;c"),))()
        assert reply.pieces == [b"-"]


@POSIX_ONLY
async def test_a_token_is_demanded_on_everything_but_health_and_reflection() -> None:
    async with worker(token="swordfish") as made:
        assert await tokenize(made, "hello")()
        for metadata in ((), (("authorization", "Bearer wrong"),)):
            refused = await refusal(tokenize(made, "hello", metadata=metadata))
            assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
        listing = worker_pb2.ListModelsRequest()
        refused = await refusal(lambda: made.control.ListModels(listing))
        assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
        for service in ("", "y26hkx.v1.ChatService", "y26hkx.v1.WorkerService"):
            reply = await made.health.Check(health_pb2.HealthCheckRequest(service=service))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        channel: Any = made.channel
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection.ServerReflectionInfo(iter([question]))
        listed = await anext(aiter(call))
        names = {service.name for service in listed.list_services_response.service}
        assert {"y26hkx.v1.ChatService", "y26hkx.v1.WorkerService"} <= names


@POSIX_ONLY
async def test_bytes_that_are_no_message_are_refused_after_the_token(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with worker(token="swordfish") as made:
        unary: Any = made.channel.unary_unary("/y26hkx.v1.ChatService/Tokenize")
        stream: Any = made.channel.unary_stream("/y26hkx.v1.ChatService/Generate")
        for metadata, code in (
            (made.metadata, grpc.StatusCode.INVALID_ARGUMENT),
            ((), grpc.StatusCode.UNAUTHENTICATED),
        ):
            options: Any = {"metadata": metadata, "timeout": BOUND_S}
            assert (await refusal(lambda: unary(b"\xff", **options))).code() is code  # noqa: B023
            assert await stream(b"\xff", **options).code() is code
    assert not [record for record in caplog.records if record.exc_info]


@POSIX_ONLY
async def test_a_deadline_and_a_cancel_end_the_work_of_the_servicer() -> None:
    async with worker() as made:
        late = await refusal(tokenize(made, "for ever", timeout=0.2))
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await made.stub_chat.unary_ended.wait()
        stream = made.chat.Generate(chat_pb2.GenerateRequest(), metadata=made.metadata)
        texts = [event.delta.text for event in [await stream.read() for _ in range(3)]]
        assert texts == ["0", "1", "2"]
        stream.cancel()
        await made.stub_chat.streams_ended.wait()


@POSIX_ONLY
async def test_two_workers_on_one_port_are_refused(unused_tcp_port: int) -> None:
    async with worker(port=unused_tcp_port):
        with pytest.raises(RuntimeError, match=r"[Ff]ailed to bind"):
            async with worker(port=unused_tcp_port):
                pass


def test_off_loopback_a_token_and_trust_are_required() -> None:
    with pytest.raises(ValueError, match="WORKER_TOKEN is required"):
        RuntimeSettings(host="0.0.0.0", token="", trusted_network=True)
    with pytest.raises(ValueError, match="WORKER_TLS_CERT"):
        RuntimeSettings(host="0.0.0.0", token="t")
    assert RuntimeSettings(host="0.0.0.0", token="t", trusted_network=True).port == 0
