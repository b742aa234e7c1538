"""A worker's server over real sockets, with a stub engine as its model."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import httpx
import msgspec
import pytest
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from common.error_texts import ErrorText
from common.errors import InvalidRequest, ServingError
from common.rpc_status import DETAILS_KEY, from_status
from protos.y26hkx.v1 import chat_pb2, chat_pb2_grpc, worker_pb2, worker_pb2_grpc
from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.stub_engine import StubCall, StubEvent, StubSpec
from worker_runtime.catalog import Catalog, ModelEntry, Scan
from worker_runtime.clock import SystemClock
from worker_runtime.lifecycle.manager import Models
from worker_runtime.rpc.logs import request_id
from worker_runtime.rpc.server import local_models, serve
from worker_runtime.settings import RuntimeSettings

BOUND_S = 30
# With ids and fields beside it, more than fits into a trailer.
LONG = "a" * 1500
POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker gives start-up memory back in a process of its own. In this one it would collect and
    trim what the native libraries of other tests have left."""
    monkeypatch.setattr("worker_runtime.rpc.server.release_start_up_memory", lambda: None)


class StubChat(chat_pb2_grpc.ChatServiceServicer):
    """Chat whose every method misbehaves in its own way."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self.streams_ended = asyncio.Event()
        self.unary_ended = asyncio.Event()

    async def Generate(  # noqa: N802
        self, request: chat_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[chat_pb2.GenerateEvent]:
        try:
            async with self._models.lease(request.model) as lease:
                call = lease.engine.call(StubCall(3, never_end=True))
                async with contextlib.aclosing(call) as events:
                    async for body in events:
                        text = str(msgspec.msgpack.decode(body, type=StubEvent).number)
                        yield chat_pb2.GenerateEvent(delta=chat_pb2.Delta(text=text))
        finally:
            self.streams_ended.set()

    async def GenerateMany(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[chat_pb2.GenerateCalls], context: Any
    ) -> None:
        raise NotImplementedError

    async def Tokenize(  # noqa: N802
        self, request: chat_pb2.TokenizeTextRequest, context: Any
    ) -> chat_pb2.TokenizeTextResponse:
        match request.text:
            case "refuse":
                raise InvalidRequest("no such text", param="text", suggestions=("another",) * 500)
            case "long":
                said = ErrorText("role_unknown", roles=LONG)
                raise InvalidRequest(said, param="role", suggestions=(ErrorText("send_text"),))
            case "known":
                raise InvalidRequest(ErrorText("input_empty"))
            case "bug":
                raise ZeroDivisionError("secret")
            case "stray":
                raise asyncio.CancelledError
            case "for ever":
                try:
                    await asyncio.Event().wait()
                finally:
                    self.unary_ended.set()
        return chat_pb2.TokenizeTextResponse(pieces=[request_id.get().encode()])

    async def Detokenize(  # noqa: N802
        self, request: chat_pb2.DetokenizeRequest, context: Any
    ) -> chat_pb2.DetokenizeResponse:
        raise NotImplementedError

    async def ApplyTemplate(  # noqa: N802
        self, request: chat_pb2.ApplyTemplateRequest, context: Any
    ) -> chat_pb2.ApplyTemplateResponse:
        raise NotImplementedError


class Worker:
    def __init__(self, port: int, chat: StubChat, models: Models, token: str) -> None:
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.stub_chat = chat
        self.models = models
        # The stubs' types know nothing of asyncio.
        self.chat: Any = chat_pb2_grpc.ChatServiceStub(self.channel)
        self.control: Any = worker_pb2_grpc.WorkerServiceStub(self.channel)
        self.health: Any = health_pb2_grpc.HealthStub(self.channel)
        self.metadata = (("authorization", f"Bearer {token}"), ("x-request-id", "req-1"))
        self.ended: asyncio.Task[None]
        # What the next scan finds.
        self.entries: list[ModelEntry]


@contextlib.asynccontextmanager
async def worker(
    spec: StubSpec | None = None, *, token: str = "", **fields: Any
) -> AsyncIterator[Worker]:
    settings = RuntimeSettings(host="127.0.0.1", token=token, drain_s=2, **fields)
    entries = [entry("stub", spec), entry("broken", broken="its header is truncated")]
    catalog = Catalog(lambda: Scan(entries, "stub"), ttl_s=300, clock=SystemClock())
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(BOUND_S), local_models(settings, catalog) as models:
        chat = StubChat(models)
        serving = asyncio.create_task(
            serve(
                settings=settings,
                capability="chat",
                models=models,
                add_service=lambda s: chat_pb2_grpc.add_ChatServiceServicer_to_server(chat, s),
                on_bound=bound.set_result,
            )
        )
        both: set[asyncio.Future[Any]] = {serving, bound}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
        made = Worker(bound.result(), chat, models, token)
        made.entries = entries
        made.ended = serving
        try:
            yield made
        finally:
            await made.channel.close()
            for _ in range(2):
                if not serving.done():
                    os.kill(os.getpid(), signal.SIGTERM)
                    await asyncio.wait({serving}, timeout=3)
            await serving


def error_of(caught: grpc.aio.AioRpcError) -> ServingError:
    details = dict(caught.trailing_metadata() or ())[DETAILS_KEY]
    error = from_status(Status.FromString(details))
    assert error is not None
    return error


async def refusal(call: Callable[[], Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call()
    return caught.value


def tokenize(made: Worker, text: str, **options: Any) -> Callable[[], Any]:
    request = chat_pb2.TokenizeTextRequest(text=text)
    return lambda: made.chat.Tokenize(request, **({"metadata": made.metadata} | options))


@POSIX_ONLY
def watch_with_rare_beats(made: Worker) -> Any:
    """The stream of its statuses, of which a test gets those alone that changes cause."""
    return made.control.WatchStatus(
        worker_pb2.WatchStatusRequest(interval_s=60), metadata=made.metadata
    )


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
async def test_status_tells_at_once_of_load_and_unload_and_of_new_models() -> None:
    async with worker(StubSpec(steps=3, step_s=0.1)) as made:
        watch = watch_with_rare_beats(made)

        async def until(state: worker_pb2.ModelState.ValueType) -> worker_pb2.Model:
            while True:
                status = await watch.read()
                assert status.capability == worker_pb2.CAPABILITY_CHAT
                assert status.memory.total_bytes > status.memory.available_bytes > 0
                model: worker_pb2.Model = next(m for m in status.models if m.id == "stub")
                if model.state == state:
                    return model

        assert (await until(worker_pb2.MODEL_STATE_UNLOADED)).is_default
        load = worker_pb2.LoadModelRequest(model="")
        progress = [p async for p in made.control.LoadModel(load, metadata=made.metadata)]
        assert progress[-1].state == worker_pb2.MODEL_STATE_READY
        assert any(p.stage.startswith("step") for p in progress)
        ready = await until(worker_pb2.MODEL_STATE_READY)
        assert ready.pid > 0
        assert ready.resident_bytes > 0
        assert ready.counters.loads == 1
        unload = worker_pb2.UnloadModelRequest(model="stub")
        reply = await made.control.UnloadModel(unload, metadata=made.metadata)
        assert reply.freed_bytes > 0
        unloaded = await until(worker_pb2.MODEL_STATE_UNLOADED)
        assert unloaded.freed_bytes == reply.freed_bytes
        made.entries.append(entry("new"))
        await made.control.RescanModels(worker_pb2.RescanModelsRequest(), metadata=made.metadata)
        while "new" not in {model.id for model in (await watch.read()).models}:
            pass
        watch.cancel()


@POSIX_ONLY
async def test_broken_models_are_listed_with_their_reason() -> None:
    async with worker() as made:
        for reply in (
            await made.control.ListModels(worker_pb2.ListModelsRequest(), metadata=made.metadata),
            await made.control.RescanModels(
                worker_pb2.RescanModelsRequest(), metadata=made.metadata
            ),
        ):
            broken = next(m for m in reply.models if m.id == "broken")
            assert broken.state == worker_pb2.MODEL_STATE_FAILED
            assert broken.failure == "its header is truncated"
        load = worker_pb2.LoadModelRequest(model="broken")
        call = made.control.LoadModel(load, metadata=made.metadata)
        refused = await refusal(call.read)
        assert refused.code() is grpc.StatusCode.FAILED_PRECONDITION


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


@POSIX_ONLY
async def test_two_workers_on_one_port_are_refused(unused_tcp_port: int) -> None:
    async with worker(port=unused_tcp_port):
        with pytest.raises(RuntimeError, match=r"[Ff]ailed to bind"):
            async with worker(port=unused_tcp_port):
                pass


@POSIX_ONLY
async def test_the_metrics_page_shows_the_models(unused_tcp_port: int) -> None:
    async with worker(metrics_port=unused_tcp_port) as made:
        await made.models.load("stub")
        async with httpx.AsyncClient(trust_env=False) as client:
            page = (await client.get(f"http://127.0.0.1:{unused_tcp_port}/metrics")).text
        assert 'y26hkx_model_loads_total{model="stub"} 1.0' in page
        assert 'y26hkx_model_loaded{model="broken"} 0.0' in page
        assert 'y26hkx_model_mapped_bytes{model="stub"}' in page
        assert "\ny26hkx_available_memory_bytes " in page


def test_off_loopback_a_token_and_trust_are_required() -> None:
    with pytest.raises(ValueError, match="WORKER_TOKEN is required"):
        RuntimeSettings(host="0.0.0.0", token="", trusted_network=True)
    with pytest.raises(ValueError, match="WORKER_TLS_CERT"):
        RuntimeSettings(host="0.0.0.0", token="t")
    assert RuntimeSettings(host="0.0.0.0", token="t", trusted_network=True).port == 0
