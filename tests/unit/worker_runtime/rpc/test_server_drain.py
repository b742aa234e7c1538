"""How a worker's server ends: running calls, watchers and newcomers at its signals."""

import os
import signal

import grpc
import pytest
from grpc_health.v1 import health_pb2

from protos.y26hkx.v1 import chat_pb2
from tests.unit.worker_runtime.rpc.running_server import (
    POSIX_ONLY,
    error_of,
    refusal,
    tokenize,
    watch_with_rare_beats,
    worker,
)

pytestmark = pytest.mark.timeout(60)


@POSIX_ONLY
async def test_drain_tells_watchers_refuses_newcomers_and_lets_running_calls_end() -> None:
    async with worker() as made:
        health = made.health.Watch(health_pb2.HealthCheckRequest())
        assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
        status = watch_with_rare_beats(made)
        assert not (await status.read()).draining
        stream = made.chat.Generate(chat_pb2.GenerateRequest(), metadata=made.metadata)
        await stream.read()
        pid = made.models.snapshot()[0].pid
        os.kill(os.getpid(), signal.SIGTERM)
        assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        while not (await status.read()).draining:
            pass
        refused = await refusal(tokenize(made, "hello"))
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        assert error_of(refused).retry_after_s == 5
        assert not made.ended.done()
        stream.cancel()
        await made.ended
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@POSIX_ONLY
async def test_a_second_signal_does_not_wait_for_running_calls() -> None:
    async with worker() as made:
        stream = made.chat.Generate(chat_pb2.GenerateRequest(), metadata=made.metadata)
        await stream.read()
        os.kill(os.getpid(), signal.SIGTERM)
        while (
            await made.health.Check(health_pb2.HealthCheckRequest())
        ).status == health_pb2.HealthCheckResponse.SERVING:
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        await made.ended
