"""Small embedding calls over one stream: the gateway's end and the worker's, over a real socket."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from common.errors import DeadlineExceeded, InvalidRequest, NotReady, ServingError, WorkerLost
from embed_worker.call_stream import EmbedStream
from gateway.pool.embed_stream import MOST_INPUTS, EmbedStub
from protos.y26hkx.v1 import embed_pb2 as pb
from protos.y26hkx.v1.embed_pb2_grpc import (
    EmbedServiceServicer,
    EmbedServiceStub,
    add_EmbedServiceServicer_to_server,
)
from worker_runtime.rpc.inflight import InflightRpcs
from worker_runtime.rpc.interceptor import RpcInterceptor

Serve = Callable[[pb.EmbedRequest], Awaitable[pb.EmbedResponse]]
TOKEN = "between us"
AUTHORIZATION = (("authorization", f"Bearer {TOKEN}"),)


def request(*texts: str) -> pb.EmbedRequest:
    return pb.EmbedRequest(inputs=[pb.EmbedInput(text=text) for text in texts])


async def lengths(asked: pb.EmbedRequest) -> pb.EmbedResponse:
    values = [float(len(given.text)) for given in asked.inputs]
    return pb.EmbedResponse(vectors=struct.pack(f"<{len(values)}f", *values), dimension=1)


class Worker(EmbedServiceServicer):
    """Counts RPCs, and messages of the stream with calls in them."""

    def __init__(self, serve: Serve = lengths) -> None:
        self.serve = serve
        self.inflight_rpcs = InflightRpcs()
        self.n_rpcs = self.n_messages = self.port = 0
        self.server: grpc.aio.Server

    async def start(self, port: int = 0) -> int:
        interceptor = RpcInterceptor(TOKEN, self.inflight_rpcs)
        options = [("grpc.so_reuseport", 0)]
        self.server = grpc.aio.server(interceptors=(interceptor,), options=options)
        add_EmbedServiceServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        await self.server.start()
        return self.port

    async def Embed(  # noqa: N802 - gRPC's name
        self, request: pb.EmbedRequest, context: Any
    ) -> pb.EmbedResponse:
        self.n_rpcs += 1
        return await self.serve(request)

    async def EmbedMany(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[pb.EmbedCalls], context: Any
    ) -> None:
        stream = EmbedStream(self.serve, self.inflight_rpcs)
        await stream.run(self._counted(request_iterator), context)

    async def _counted(
        self, messages: AsyncIterator[pb.EmbedCalls]
    ) -> AsyncIterator[pb.EmbedCalls]:
        async for message in messages:
            self.n_messages += 1
            yield message

    # Nobody asks for these here.
    Rerank = Score = Tokenize = EmbedServiceServicer.Rerank  # type: ignore[assignment]
    OpenDirectStream = EmbedServiceServicer.OpenDirectStream


class OldWorker(Worker):
    """From before there was a stream."""

    EmbedMany = EmbedServiceServicer.EmbedMany  # type: ignore[assignment]


class Caller:
    def __init__(self, stub: EmbedStub) -> None:
        self.stub = stub

    async def embed(self, *texts: str, timeout_s: float = 20) -> list[float]:
        metadata = (*AUTHORIZATION, ("x-request-id", "test"))
        response = await self.stub.Embed(request(*texts), metadata=metadata, timeout=timeout_s)
        return list(struct.unpack(f"<{len(texts)}f", response.vectors))

    async def until_streaming(self, worker: Worker) -> None:
        worker.n_messages = 0
        async with asyncio.timeout(20):
            while not worker.n_messages:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await self.embed("x")
                await asyncio.sleep(0.02)
        worker.n_rpcs = worker.n_messages = 0


@asynccontextmanager
async def connected(worker: Worker) -> AsyncIterator[Caller]:
    port = await worker.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = EmbedStub(EmbedServiceStub(channel), AUTHORIZATION)
        keeping = asyncio.create_task(stub.keep_open())
        try:
            yield Caller(stub)
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
            await worker.server.stop(0)


async def test_calls_that_begin_together_travel_together_and_each_gets_its_own_answer() -> None:
    worker = Worker()
    async with connected(worker) as caller:
        await caller.until_streaming(worker)
        found = await asyncio.gather(*(caller.embed("x" * n, "") for n in range(200)))
    assert found == [[float(n), 0.0] for n in range(200)]
    assert worker.n_rpcs == 0
    assert worker.n_messages < 20


async def test_a_large_call_is_an_rpc_of_its_own() -> None:
    worker = Worker()
    async with connected(worker) as caller:
        await caller.until_streaming(worker)
        await caller.embed(*["text"] * (MOST_INPUTS + 1))
        await caller.embed("word " * 10_000)
        assert (worker.n_rpcs, worker.n_messages) == (2, 0)


async def test_a_refusal_is_told_whole_and_harms_no_other_call() -> None:
    async def serve(asked: pb.EmbedRequest) -> pb.EmbedResponse:
        if asked.inputs[0].text == "bad":
            raise InvalidRequest("no", param="input[0]", suggestions=("another",))
        if asked.inputs[0].text == "bug":
            raise KeyError("secret")
        return await lengths(asked)

    worker = Worker(serve)
    async with connected(worker) as caller:
        await caller.until_streaming(worker)
        refused, failed, fine = await asyncio.gather(
            caller.embed("bad"), caller.embed("bug"), caller.embed("four"), return_exceptions=True
        )
        assert fine == [4.0]
        assert isinstance(refused, InvalidRequest)
        assert (refused.param, refused.suggestions) == ("input[0]", ("another",))
        assert isinstance(failed, ServingError)
        assert failed.code == "backend_failure"
        assert "secret" not in failed.message


@pytest.mark.parametrize("how", ["leaves", "waited long enough"])
async def test_a_caller_that_gives_up_ends_its_call_alone(how: str) -> None:
    begun, cancelled, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def serve(asked: pb.EmbedRequest) -> pb.EmbedResponse:
        if asked.inputs[0].text == "slow":
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
        if asked.inputs[0].text == "other":
            await go_on.wait()
        return await lengths(asked)

    worker = Worker(serve)
    async with connected(worker) as caller, asyncio.timeout(20):
        await caller.until_streaming(worker)
        other = asyncio.create_task(caller.embed("other"))
        if how == "leaves":
            leaving = asyncio.create_task(caller.embed("slow"))
            await begun.wait()
            leaving.cancel()
        else:
            with pytest.raises(DeadlineExceeded):
                await caller.embed("slow", timeout_s=0.2)
        await cancelled.wait()
        go_on.set()
        assert await other == [5.0]
        assert worker.n_rpcs == 0


async def test_a_worker_that_dies_fails_its_calls_at_once_and_is_found_again() -> None:
    begun = asyncio.Event()

    async def serve(asked: pb.EmbedRequest) -> pb.EmbedResponse:
        if asked.inputs[0].text == "never":
            begun.set()
            await asyncio.Event().wait()
        return await lengths(asked)

    worker = Worker(serve)
    async with connected(worker) as caller, asyncio.timeout(30):
        await caller.until_streaming(worker)
        waiting = asyncio.create_task(caller.embed("never"))
        await begun.wait()
        await worker.server.stop(0)
        with pytest.raises(WorkerLost):
            await waiting
        await worker.start(worker.port)
        await caller.until_streaming(worker)


async def test_a_worker_that_drains_refuses_new_calls_and_waits_for_open_ones() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def serve(asked: pb.EmbedRequest) -> pb.EmbedResponse:
        if asked.inputs[0].text == "open":
            begun.set()
            await go_on.wait()
        return await lengths(asked)

    worker = Worker(serve)
    async with connected(worker) as caller, asyncio.timeout(20):
        await caller.until_streaming(worker)
        still_open = asyncio.create_task(caller.embed("open"))
        await begun.wait()
        worker.inflight_rpcs.draining.set()
        with pytest.raises(NotReady):
            await caller.embed("new")
        drained = asyncio.create_task(worker.inflight_rpcs.all_ended())
        await asyncio.sleep(0.05)
        assert not drained.done()
        go_on.set()
        assert await still_open == [4.0]
        await drained


async def test_a_worker_without_the_stream_is_asked_by_rpcs() -> None:
    worker = OldWorker()
    async with connected(worker) as caller:
        for _ in range(3):
            assert await caller.embed("four") == [4.0]
            await asyncio.sleep(0.1)
    assert worker.n_rpcs == 3


async def test_a_wrong_token_opens_no_stream() -> None:
    worker = Worker()
    port = await worker.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = EmbedServiceStub(channel).EmbedMany(metadata=(("authorization", "Bearer no"),))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    finally:
        await worker.server.stop(0)
