"""Small generations over one stream: the gateway's end and the worker's, over a real socket."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from chat_worker.call_stream import GenerateStream, Serve
from common.errors import DeadlineExceeded, InvalidRequest, NotReady, ServingError, WorkerLost
from common.rpc_limits import WINDOW_EVENTS
from gateway.pool.chat_stream import MOST_BYTES, ChatStub
from protos.y26hkx.v1 import chat_pb2 as pb
from protos.y26hkx.v1.chat_pb2_grpc import (
    ChatServiceServicer,
    ChatServiceStub,
    add_ChatServiceServicer_to_server,
)
from worker_runtime.rpc.inflight import InflightRpcs
from worker_runtime.rpc.interceptor import RpcInterceptor

TOKEN = "between us"
AUTHORIZATION = (("authorization", f"Bearer {TOKEN}"),)
METADATA = (*AUTHORIZATION, ("x-request-id", "test"))


def delta(text: str) -> pb.GenerateEvent:
    return pb.GenerateEvent(delta=pb.Delta(text=text, n_tokens=1))


async def count_up(request: pb.GenerateRequest) -> AsyncGenerator[pb.GenerateEvent, None]:
    """As many numbers as the request allows tokens, each after its prompt."""
    for number in range(request.max_tokens):
        yield delta(f"{request.prompt}{number} ")


class Worker(ChatServiceServicer):
    """Counts RPCs, messages with replies in them, and the events that each call has made."""

    def __init__(self, serve: Serve = count_up) -> None:
        self.serve = serve
        self.inflight_rpcs = InflightRpcs()
        self.n_rpcs = self.n_messages = self.port = 0
        self.n_made: dict[str, int] = {}
        self.server: grpc.aio.Server

    async def start(self, port: int = 0) -> int:
        interceptor = RpcInterceptor(TOKEN, self.inflight_rpcs)
        options = [("grpc.so_reuseport", 0)]
        self.server = grpc.aio.server(interceptors=(interceptor,), options=options)
        add_ChatServiceServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        await self.server.start()
        return self.port

    async def Generate(  # noqa: N802 - gRPC's name
        self, request: pb.GenerateRequest, context: Any
    ) -> AsyncGenerator[pb.GenerateEvent, None]:
        self.n_rpcs += 1
        async for event in self.serve(request):
            yield event

    async def GenerateMany(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[pb.GenerateCalls], context: Any
    ) -> None:
        worker = self

        class Counted(GenerateStream):
            def message(self, replies: list[pb.GenerateReply]) -> pb.GenerateReplies:
                worker.n_messages += bool(replies)
                return super().message(replies)

        await Counted(self._counted, self.inflight_rpcs).run(request_iterator, context)

    async def _counted(self, request: pb.GenerateRequest) -> AsyncGenerator[pb.GenerateEvent, None]:
        async for event in self.serve(request):
            self.n_made[request.prompt] = self.n_made.get(request.prompt, 0) + 1
            yield event

    # Nobody asks for these here.
    Tokenize = Detokenize = ApplyTemplate = ChatServiceServicer.Tokenize  # type: ignore[assignment]


class OldWorker(Worker):
    """From before there was a stream."""

    GenerateMany = ChatServiceServicer.GenerateMany  # type: ignore[assignment]


class Caller:
    def __init__(self, stub: ChatStub) -> None:
        self.stub = stub

    def begin(self, prompt: str, n: int = 1, timeout_s: float = 20, **fields: Any) -> Any:
        request = pb.GenerateRequest(prompt=prompt, max_tokens=n, **fields)
        return self.stub.Generate(request, metadata=METADATA, timeout=timeout_s)

    async def answer(self, prompt: str, n: int = 1, **options: Any) -> str:
        return await text_of(self.begin(prompt, n, **options))

    async def until_streaming(self, worker: Worker) -> None:
        worker.n_messages = 0
        async with asyncio.timeout(20):
            while not worker.n_messages:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await self.answer("x")
                await asyncio.sleep(0.02)
        worker.n_rpcs = worker.n_messages = 0
        worker.n_made.clear()


async def text_of(call: Any) -> str:
    """Everything that a call says from now on."""
    pieces = []
    while (event := await call.read()) is not grpc.aio.EOF:
        pieces.append(event.delta.text)
    return "".join(pieces)


def numbers(prompt: str, n: int) -> str:
    return "".join(f"{prompt}{number} " for number in range(n))


@asynccontextmanager
async def connected(worker: Worker) -> AsyncIterator[Caller]:
    port = await worker.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = ChatStub(ChatServiceStub(channel), AUTHORIZATION)
        keeping = asyncio.create_task(stub.keep_open())
        try:
            yield Caller(stub)
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
            await worker.server.stop(0)


async def test_answers_share_messages_and_each_reader_gets_its_own_in_order() -> None:
    worker = Worker()
    async with connected(worker) as caller, asyncio.timeout(30):
        await caller.until_streaming(worker)
        n_each = 3 * WINDOW_EVENTS
        found = await asyncio.gather(*(caller.answer(f"{i}:", n_each) for i in range(20)))
        assert found == [numbers(f"{i}:", n_each) for i in range(20)]
    assert worker.n_rpcs == 0
    assert worker.n_messages < 20 * n_each / 4


async def test_readers_of_any_pace_get_all_of_their_answers() -> None:
    chance = random.Random(7)

    async def read(caller: Caller, prompt: str, n: int) -> bool:
        call, pieces = caller.begin(prompt, n), []
        while (event := await call.read()) is not grpc.aio.EOF:
            pieces.append(event.delta.text)
            if chance.random() < 0.05:
                await asyncio.sleep(chance.random() / 100)
        return "".join(pieces) == numbers(prompt, n)

    worker = Worker()
    async with connected(worker) as caller, asyncio.timeout(30):
        await caller.until_streaming(worker)
        lengths = [chance.randrange(4 * WINDOW_EVENTS) for _ in range(30)]
        assert all(await asyncio.gather(*(read(caller, f"{i}:", n) for i, n in enumerate(lengths))))
    assert worker.n_rpcs == 0


async def test_a_reader_that_stops_holds_up_no_other_and_its_worker_waits() -> None:
    worker = Worker()
    async with connected(worker) as caller, asyncio.timeout(30):
        await caller.until_streaming(worker)
        slow = caller.begin("slow ", 1000)
        await slow.read()
        assert await caller.answer("quick ", 1000) == numbers("quick ", 1000)
        # One more is in the worker's hand.
        assert worker.n_made["slow "] <= WINDOW_EVENTS + 1
        assert await text_of(slow) == numbers("slow ", 1000).removeprefix("slow 0 ")


@pytest.mark.parametrize("kind", ["much text", "log-probabilities"])
async def test_a_large_call_is_an_rpc_of_its_own(kind: str) -> None:
    worker = Worker()
    async with connected(worker) as caller:
        await caller.until_streaming(worker)
        if kind == "much text":
            await caller.answer("x" * MOST_BYTES)
        else:
            await caller.answer("x", top_logprobs=0)
        assert (worker.n_rpcs, worker.n_messages) == (1, 0)


async def test_a_refusal_is_told_whole_and_harms_no_other_call() -> None:
    async def serve(request: pb.GenerateRequest) -> AsyncGenerator[pb.GenerateEvent, None]:
        yield delta("begun")
        if request.prompt == "bad":
            raise InvalidRequest("no", param="prompt", suggestions=("another",))
        if request.prompt == "bug":
            raise KeyError("secret")

    worker = Worker(serve)
    async with connected(worker) as caller, asyncio.timeout(20):
        await caller.until_streaming(worker)
        calls = [caller.begin(prompt) for prompt in ("bad", "bug", "good")]
        for call in calls:
            assert (await call.read()).delta.text == "begun"
        refused, failed, fine = await asyncio.gather(
            *(call.read() for call in calls), return_exceptions=True
        )
        assert fine is grpc.aio.EOF
        assert isinstance(refused, InvalidRequest)
        assert (refused.param, refused.suggestions) == ("prompt", ("another",))
        assert isinstance(failed, ServingError)
        assert failed.code == "backend_failure"
        assert "secret" not in failed.message


@pytest.mark.parametrize("how", ["cancelled", "waited long enough", "stopped reading"])
async def test_a_caller_that_gives_up_ends_its_call_alone(how: str) -> None:
    ended, go_on = asyncio.Event(), asyncio.Event()

    async def serve(request: pb.GenerateRequest) -> AsyncGenerator[pb.GenerateEvent, None]:
        if request.prompt == "other":
            yield delta("one ")
            await go_on.wait()
            yield delta("two")
        if request.prompt == "slow":
            try:
                yield delta("begun")
                while how == "stopped reading":
                    yield delta("more")
                await asyncio.Event().wait()
            finally:
                ended.set()

    worker = Worker(serve)
    async with connected(worker) as caller, asyncio.timeout(20):
        await caller.until_streaming(worker)
        other = caller.begin("other")
        slow = caller.begin("slow", timeout_s=0.3 if how == "waited long enough" else 20)
        await slow.read()
        if how == "waited long enough":
            with pytest.raises(DeadlineExceeded):
                await slow.read()
        else:
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow.read()
        await ended.wait()
        go_on.set()
        assert await text_of(other) == "one two"
        assert worker.n_rpcs == 0


async def test_a_worker_that_dies_ends_each_answer_with_an_error_and_is_found_again() -> None:
    async def serve(request: pb.GenerateRequest) -> AsyncGenerator[pb.GenerateEvent, None]:
        yield delta("begun")
        if request.prompt == "never":
            await asyncio.Event().wait()

    worker = Worker(serve)
    async with connected(worker) as caller, asyncio.timeout(30):
        await caller.until_streaming(worker)
        calls = [caller.begin("never") for _ in range(5)]
        for call in calls:
            await call.read()
        await worker.server.stop(0)
        lost = await asyncio.gather(*(call.read() for call in calls), return_exceptions=True)
        assert [type(error) for error in lost] == [WorkerLost] * 5
        await worker.start(worker.port)
        await caller.until_streaming(worker)


async def test_a_worker_that_drains_refuses_new_calls_and_waits_for_open_ones() -> None:
    go_on = asyncio.Event()

    async def serve(request: pb.GenerateRequest) -> AsyncGenerator[pb.GenerateEvent, None]:
        yield delta("one ")
        if request.prompt == "open":
            await go_on.wait()
            yield delta("two")

    worker = Worker(serve)
    async with connected(worker) as caller, asyncio.timeout(20):
        await caller.until_streaming(worker)
        still_open = caller.begin("open")
        await still_open.read()
        worker.inflight_rpcs.draining.set()
        with pytest.raises(NotReady):
            await caller.answer("new")
        drained = asyncio.create_task(worker.inflight_rpcs.all_ended())
        await asyncio.sleep(0.05)
        assert not drained.done()
        go_on.set()
        assert await text_of(still_open) == "two"
        await drained


async def test_a_worker_without_the_stream_is_asked_by_rpcs() -> None:
    worker = OldWorker()
    async with connected(worker) as caller:
        for _ in range(3):
            assert await caller.answer("x") == "x0 "
            await asyncio.sleep(0.1)
    assert worker.n_rpcs == 3


async def test_a_call_that_ends_is_open_with_its_worker_no_more() -> None:
    worker = Worker()
    async with connected(worker) as caller, asyncio.timeout(20):
        await caller.until_streaming(worker)
        await asyncio.gather(*(caller.answer("x", 100) for _ in range(10)))
        caller.begin("left", 1000).cancel()
        await caller.answer("last")
        await worker.inflight_rpcs.all_ended()
