"""The gateway's end of a direct stream, beside a process that a test plays, over real sockets."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from common.direct_stream import PROOF_BYTES, is_proof, proof
from common.errors import DeadlineExceeded, InvalidRequest, WorkerLost
from common.frames import LENGTH, framed
from gateway.pool.direct_streams import DirectStreams
from gateway.pool.embed_stream import MOST_INPUTS, EmbedStub
from protos.y26hkx.v1 import embed_pb2 as pb
from protos.y26hkx.v1.embed_pb2_grpc import EmbedServiceServicer, EmbedServiceStub
from tests.contract.test_embed_stream import AUTHORIZATION, Worker

SECRET = b"s" * 32
Handle = Callable[[pb.EmbedCall], Awaitable[pb.EmbedReply | None]]
BOUND_S = 20

pytestmark = pytest.mark.timeout(60)


def vector(*values: float) -> pb.EmbedResponse:
    return pb.EmbedResponse(vectors=struct.pack(f"<{len(values)}f", *values), dimension=1)


async def answered(call: pb.EmbedCall) -> pb.EmbedReply:
    """By the process: the worker answers with lengths."""
    return pb.EmbedReply(id=call.id, response=vector(*[-1.0] * len(call.request.inputs)))


class Process(Worker):
    """A worker, and the process to which it sends the gateway.

    Args:
        handle: answers a call, or lets it wait.
        says: what the process proves with.
    """

    def __init__(self, handle: Handle = answered, says: bytes = SECRET) -> None:
        super().__init__()
        self.handle = handle
        self.says = says
        self.n_streams = 0
        self.calls: list[pb.EmbedCall] = []
        self.writer: asyncio.StreamWriter
        self.called, self.ended = asyncio.Event(), asyncio.Event()

    async def OpenDirectStream(  # noqa: N802 - gRPC's name
        self, request: pb.DirectStreamRequest, context: Any
    ) -> AsyncIterator[pb.DirectStream]:
        assert request.model == "minilm"
        self.n_streams += 1
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield pb.DirectStream(port=server.sockets[0].getsockname()[1], secret=SECRET)
            await self.ended.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        assert is_proof(await reader.readexactly(PROOF_BYTES), SECRET, "caller")
        writer.write(proof(self.says, "process"))
        async with asyncio.TaskGroup() as answering:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                    message = pb.EmbedCalls.FromString(await reader.readexactly(length))
                    for call in message.calls:
                        self.calls.append(call)
                        self.called.set()
                        answering.create_task(self._answer(call))
        writer.close()
        self.ended.set()

    async def _answer(self, call: pb.EmbedCall) -> None:
        reply = await self.handle(call)
        if reply is not None:
            self.reply(reply)

    def reply(self, *replies: pb.EmbedReply) -> None:
        self.writer.write(framed(pb.EmbedReplies(replies=replies).SerializeToString()))


class Caller:
    def __init__(self, stub: EmbedStub) -> None:
        self.stub = stub

    async def embed(
        self, *texts: str, timeout_s: float = 20, trace: str = "", **fields: Any
    ) -> list[float]:
        inputs = [pb.EmbedInput(text=text) for text in texts]
        request = pb.EmbedRequest(model="MiniLM", inputs=inputs, **fields)
        metadata = [*AUTHORIZATION, ("x-request-id", "test")]
        if trace:
            metadata.append(("traceparent", trace))
        response = await self.stub.Embed(request, metadata=metadata, timeout=timeout_s)
        return list(struct.unpack(f"<{len(texts)}f", response.vectors))

    async def until_direct(self, process: Process) -> None:
        async with asyncio.timeout(BOUND_S):
            while not process.calls:
                await self.embed("x")
        process.n_rpcs = process.n_messages = 0
        process.calls.clear()
        process.called.clear()


@asynccontextmanager
async def connected(process: Worker) -> AsyncIterator[Caller]:
    port = await process.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = EmbedServiceStub(channel)
        direct = DirectStreams(stub, AUTHORIZATION, {"MiniLM": "minilm"}.get)
        caller = Caller(EmbedStub(stub, AUTHORIZATION, direct))
        keeping = [asyncio.create_task(k()) for k in (caller.stub.keep_open, direct.keep_open)]
        try:
            yield caller
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.wait(keeping)
            await process.server.stop(0)


async def test_calls_that_follow_each_other_go_to_the_process_itself() -> None:
    process = Process()
    async with connected(process) as caller:
        await caller.until_direct(process)
        found = await asyncio.gather(*(caller.embed("x", "y") for _ in range(100)))
    assert found == [[-1.0, -1.0]] * 100
    assert len(process.calls) == 100
    assert (process.n_rpcs, process.n_messages, process.n_streams) == (0, 0, 1)


async def test_a_call_now_and_then_opens_no_stream() -> None:
    process = Process()
    async with connected(process) as caller:
        for _ in range(3):
            assert await caller.embed("four") == [4.0]
            await asyncio.sleep(0.4)
    assert process.n_streams == 0


async def test_large_and_traced_calls_go_through_the_worker() -> None:
    process = Process()
    async with connected(process) as caller:
        await caller.until_direct(process)
        assert await caller.embed(*["four"] * (MOST_INPUTS + 1)) == [4.0] * (MOST_INPUTS + 1)
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        assert await caller.embed("four", trace=trace) == [4.0]
        assert not process.calls


async def test_a_call_that_says_how_long_the_model_stays_ends_the_stream() -> None:
    process = Process()
    async with connected(process) as caller:
        await caller.until_direct(process)
        assert await caller.embed("four", keep_alive_s=0.0) == [4.0]
        async with asyncio.timeout(BOUND_S):
            await process.ended.wait()


async def test_a_stream_without_calls_ends() -> None:
    process = Process()
    async with connected(process) as caller:
        await caller.until_direct(process)
        async with asyncio.timeout(BOUND_S):
            await process.ended.wait()
        assert await caller.embed("four") == [4.0]


async def test_what_the_process_does_not_answer_is_asked_of_the_worker() -> None:
    async def handle(call: pb.EmbedCall) -> pb.EmbedReply:
        is_bad = call.request.inputs[0].text == "bad"
        return pb.EmbedReply(id=call.id) if is_bad else await answered(call)

    process = Process(handle)

    async def serve(request: pb.EmbedRequest) -> pb.EmbedResponse:
        if request.inputs[0].text == "bad":
            raise InvalidRequest("no", param="input[0]")
        return vector(0.0)

    process.serve = serve
    async with connected(process) as caller:
        await caller.until_direct(process)
        with pytest.raises(InvalidRequest) as caught:
            await caller.embed("bad")
        assert caught.value.param == "input[0]"
        assert await caller.embed("fine") == [-1.0]


async def test_a_process_that_takes_no_more_calls_answers_those_it_has() -> None:
    go_on = asyncio.Event()

    async def handle(call: pb.EmbedCall) -> pb.EmbedReply:
        if call.request.inputs[0].text == "slow":
            await go_on.wait()
        return await answered(call)

    process = Process(handle)
    async with connected(process) as caller, asyncio.timeout(BOUND_S):
        await caller.until_direct(process)
        slow = asyncio.create_task(caller.embed("slow"))
        await process.called.wait()
        process.reply()
        answers: list[float] = []
        while answers != [4.0]:
            answers = await caller.embed("four")
        go_on.set()
        assert await slow == [-1.0]
        await process.ended.wait()


@pytest.mark.parametrize("how", ["dies", "sends what is no message"])
async def test_calls_of_a_process_that_fails_are_lost_at_once_and_the_worker_is_asked_again(
    how: str,
) -> None:
    async def handle(call: pb.EmbedCall) -> pb.EmbedReply | None:
        return None if call.request.inputs[0].text == "never" else await answered(call)

    process = Process(handle)
    async with connected(process) as caller, asyncio.timeout(BOUND_S):
        await caller.until_direct(process)
        waiting = asyncio.create_task(caller.embed("never"))
        await process.called.wait()
        if how == "dies":
            process.writer.transport.abort()
        else:
            process.writer.write(framed(b"\xff\xff\xff"))
        with pytest.raises(WorkerLost):
            await waiting
        assert await caller.embed("four") == [4.0]


async def test_a_stranger_in_the_place_of_the_process_gets_no_text() -> None:
    process = Process(says=b"another")
    async with connected(process) as caller:
        for _ in range(20):
            assert await caller.embed("four") == [4.0]
            await asyncio.sleep(0.02)
    assert process.n_streams == 1
    assert not process.calls


@pytest.mark.parametrize("how", ["leaves", "waited long enough"])
async def test_a_caller_that_gives_up_cancels_its_call_alone(how: str) -> None:
    async def handle(call: pb.EmbedCall) -> pb.EmbedReply | None:
        is_slow = call.cancel or call.request.inputs[0].text == "slow"
        return None if is_slow else await answered(call)

    process = Process(handle)
    async with connected(process) as caller, asyncio.timeout(BOUND_S):
        await caller.until_direct(process)
        if how == "leaves":
            leaving = asyncio.create_task(caller.embed("slow"))
            await process.called.wait()
            leaving.cancel()
            await asyncio.wait({leaving})
        else:
            with pytest.raises(DeadlineExceeded):
                await caller.embed("slow", timeout_s=0.2)
        assert await caller.embed("other") == [-1.0]
        slow, cancel, _ = process.calls
        assert (cancel.cancel, cancel.id) == (True, slow.id)


class OldWorker(Worker):
    """From before there were such streams."""

    OpenDirectStream = EmbedServiceServicer.OpenDirectStream


async def test_a_worker_without_such_streams_is_asked_as_before() -> None:
    async with connected(OldWorker()) as caller:
        for _ in range(20):
            assert await caller.embed("four") == [4.0]
            await asyncio.sleep(0.01)
