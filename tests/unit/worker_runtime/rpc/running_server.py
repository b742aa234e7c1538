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
import msgspec
import pytest
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2_grpc

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


def watch_with_rare_beats(made: Worker) -> Any:
    """The stream of its statuses, of which a test gets those alone that changes cause."""
    return made.control.WatchStatus(
        worker_pb2.WatchStatusRequest(interval_s=60), metadata=made.metadata
    )
