"""Direct streams of a real encoder process, over its real socket: what a gateway may do to one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from common.direct_stream import PROOF_BYTES, is_proof, proof
from common.errors import Overloaded, WorkerLost
from common.frames import LENGTH, framed
from embed_worker import pipe_messages as m
from embed_worker.direct_streams.process_end import MOST_STREAMS
from embed_worker.library import OPENVINO
from protos.y26hkx.v1 import common_pb2
from protos.y26hkx.v1 import embed_pb2 as pb
from tests.unit.embed_worker.running_encoder import built_in, loaded
from worker_runtime.engine_process.client import EngineClient

SECRET = b"s" * 32
MODEL = common_pb2.ServedModel(id="minilm", fingerprint="fp_1", backend="openvino")
MAX_INPUTS = 3
BOUND_S = 30

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(170)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(converted_dir: object) -> AsyncIterator[EngineClient]:
    chosen = {"backend": OPENVINO, "precision": "f32", "converted_dir": converted_dir}
    process = await loaded(built_in(**chosen))
    yield process
    await process.stop(5)


class Caller:
    """A gateway's end of a direct stream, and the worker's call that keeps it open."""

    def __init__(self, engine: EngineClient, secret: bytes) -> None:
        listen = m.Listen(
            secret=secret, served_model=MODEL.SerializeToString(), max_inputs=MAX_INPUTS
        )
        self.events = engine.call(listen)
        self.served = m.Served()
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def listening(self) -> int:
        event = m.stream_decoder.decode(await anext(self.events))
        assert isinstance(event, m.Listening)
        return event.port

    async def connect(self, port: int) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)

    async def prove(self, secret: bytes = SECRET) -> None:
        self.writer.write(proof(secret, "caller"))
        assert is_proof(await self.reader.readexactly(PROOF_BYTES), secret, "process")

    def send(self, *calls: pb.EmbedCall) -> None:
        self.writer.write(framed(pb.EmbedCalls(calls=calls).SerializeToString()))

    async def receive(self) -> pb.EmbedReplies:
        (length,) = LENGTH.unpack(await self.reader.readexactly(LENGTH.size))
        return pb.EmbedReplies.FromString(await self.reader.readexactly(length))

    async def replies(self, count: int) -> dict[int, pb.EmbedReply]:
        found: dict[int, pb.EmbedReply] = {}
        while len(found) < count:
            found |= {reply.id: reply for reply in (await self.receive()).replies}
        return found

    async def until_ended(self) -> None:
        """Read what the worker is told, to the end of its call."""
        async for event in self.events:
            told = m.stream_decoder.decode(event)
            assert isinstance(told, m.Served)
            self.served.n_calls += told.n_calls
            self.served.n_tokens += told.n_tokens


@asynccontextmanager
async def calling(
    engine: EngineClient, secret: bytes = SECRET, *, proves: bool = True
) -> AsyncIterator[Caller]:
    caller = Caller(engine, secret)
    async with asyncio.timeout(BOUND_S), contextlib.aclosing(caller.events):
        await caller.connect(await caller.listening())
        try:
            if proves:
                await caller.prove(secret)
            yield caller
        finally:
            caller.writer.close()
            with contextlib.suppress(OSError):
                await caller.writer.wait_closed()


def call(id: int, *texts: str, **fields: object) -> pb.EmbedCall:
    request = pb.EmbedRequest(inputs=[pb.EmbedInput(text=text) for text in texts], **fields)  # type: ignore[arg-type]
    return pb.EmbedCall(id=id, request=request)


async def by_pipe(engine: EngineClient, *texts: str) -> bytes:
    return m.event_decoder.decode(await engine.unary(m.Embed(inputs=list(texts)))).vectors  # type: ignore[union-attr]


async def test_answers_are_those_of_the_pipe_and_name_the_model(engine: EngineClient) -> None:
    async with calling(engine) as caller:
        caller.send(call(7, "one", "two words"), call(8, "記憶體"))
        found = await caller.replies(2)
        assert found[7].response.model == MODEL
        assert list(found[7].response.token_counts) == [3, 4]
        assert found[7].response.usage.prompt_tokens == 7
        vectors = np.frombuffer(found[7].response.vectors, "<f4")
        expected = np.frombuffer(await by_pipe(engine, "one", "two words"), "<f4")
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
        assert len(found[8].response.vectors) == 4 * found[8].response.dimension


async def test_the_worker_learns_what_was_served_when_the_gateway_ends_its_side(
    engine: EngineClient,
) -> None:
    async with calling(engine) as caller:
        caller.send(*(call(id, f"text {id}") for id in range(40)))
        # The end overtakes no call.
        caller.writer.write_eof()
        assert len(await caller.replies(40)) == 40
        assert not await caller.reader.read()
        await caller.until_ended()
    assert (caller.served.n_calls, caller.served.n_tokens) == (40, 160)


@pytest.mark.parametrize(
    "wrong",
    [
        call(1),
        call(1, ""),
        call(1, *["x"] * (MAX_INPUTS + 1)),
        call(1, "x", dimensions=100_000),
        call(1, "x " * 600, truncate=pb.TRUNCATE_NONE),
        pb.EmbedCall(id=1, request=pb.EmbedRequest(inputs=[pb.EmbedInput()])),
    ],
    ids=["none", "empty", "too many", "dimensions", "too long", "of no kind"],
)
async def test_what_fails_is_left_to_the_worker_and_harms_no_other_call(
    engine: EngineClient, wrong: pb.EmbedCall
) -> None:
    async with calling(engine) as caller:
        caller.send(wrong, call(2, "fine"))
        found = await caller.replies(2)
    assert found[1].WhichOneof("outcome") is None
    assert found[2].HasField("response")


async def test_a_cancelled_call_gets_no_reply_and_others_do(engine: EngineClient) -> None:
    async with calling(engine) as caller:
        caller.send(*(call(id, f"{id} " * 100) for id in range(1, 30)))
        caller.send(pb.EmbedCall(id=29, cancel=True), call(30, "after"))
        caller.writer.write_eof()
        found: dict[int, pb.EmbedReply] = {}
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                found |= {reply.id: reply for reply in (await caller.receive()).replies}
    # It may have been computed before the cancel was read.
    assert found.keys() | {29} == set(range(1, 31))


async def test_a_stream_that_is_to_end_says_so_and_serves_what_has_been_sent(
    engine: EngineClient,
) -> None:
    async with calling(engine) as caller:
        caller.send(call(1, "before"))
        assert len(await caller.replies(1)) == 1
        async for _ in engine.call(m.StopListening(SECRET)):
            raise AssertionError("it has no events")
        assert not (await caller.receive()).replies
        caller.send(call(2, "on its way"))
        caller.writer.write_eof()
        assert (await caller.replies(1))[2].HasField("response")
        await caller.until_ended()
    assert caller.served.n_calls == 2


async def test_a_silent_gateway_is_asked_to_end_and_then_cut_off(engine: EngineClient) -> None:
    async with calling(engine) as caller:
        assert not (await caller.receive()).replies
        assert not await caller.reader.read()
        await caller.until_ended()


@pytest.mark.parametrize("sent", [b"\xff" * 4, framed(b"\xff\xff\xff")], ids=["length", "message"])
async def test_bytes_that_are_no_calls_end_their_stream_alone(
    engine: EngineClient, sent: bytes
) -> None:
    async with calling(engine) as caller, calling(engine, b"o" * 32) as other:
        caller.writer.write(sent)
        assert not await caller.reader.read()
        await caller.until_ended()
        other.send(call(1, "still here"))
        assert len(await other.replies(1)) == 1


async def test_who_does_not_know_the_secret_is_turned_away(engine: EngineClient) -> None:
    async with calling(engine, proves=False) as caller:
        caller.writer.write(proof(b"guess", "caller"))
        assert not await caller.reader.read()
        await caller.until_ended()


async def test_a_second_connection_finds_nobody(engine: EngineClient) -> None:
    async with calling(engine) as caller:
        _, port = caller.writer.get_extra_info("peername")
        with pytest.raises(OSError, match=str(port)):
            await asyncio.open_connection("127.0.0.1", port)


async def test_a_gateway_that_vanishes_takes_its_calls_along(engine: EngineClient) -> None:
    async with calling(engine) as caller:
        caller.send(*(call(id, f"{id} " * 200) for id in range(1, 20)))
        caller.writer.transport.abort()
        await caller.until_ended()
    assert len(await by_pipe(engine, "next")) > 0


async def test_a_gateway_that_does_not_read_stops_nobody_else(engine: EngineClient) -> None:
    async with calling(engine) as deaf:
        deaf.reader.feed_data(bytes(1 << 20))  # more than the reader keeps: it stops reading
        n_sent = 0
        # Far more replies than the socket holds.
        for n_sent in range(6000):
            deaf.send(call(n_sent, "x", "y", "z"))
        assert len(await by_pipe(engine, "another caller")) > 0
        await deaf.until_ended()
    assert deaf.served.n_calls < n_sent


async def test_a_worker_that_leaves_its_call_ends_the_stream(engine: EngineClient) -> None:
    async with calling(engine) as caller:
        await caller.events.aclose()
        assert not await caller.reader.read()


async def test_a_worker_that_leaves_its_call_before_the_gateway_connects_ends_the_stream(
    engine: EngineClient,
) -> None:
    caller = Caller(engine, SECRET)
    async with asyncio.timeout(BOUND_S), contextlib.aclosing(caller.events):
        port = await caller.listening()
        await caller.events.aclose()
        # Its answer comes after the cancellation.
        await by_pipe(engine, "a text")
        await caller.connect(port)
        await caller.prove()
        assert not await caller.reader.read()
        caller.writer.close()


async def test_there_are_not_too_many_streams(engine: EngineClient) -> None:
    async with contextlib.AsyncExitStack() as streams:
        for number in range(MOST_STREAMS):
            await streams.enter_async_context(calling(engine, bytes([number]) * 32))
        with pytest.raises(Overloaded):
            await Caller(engine, SECRET).listening()


async def test_an_encoder_that_dies_ends_the_stream_and_the_workers_call() -> None:
    engine = await loaded(built_in())
    async with calling(engine) as caller:
        engine.kill()
        assert not await caller.reader.read()
        with pytest.raises(WorkerLost):
            await caller.until_ended()
    await engine.wait()
    assert isinstance(engine.exit, msgspec.Struct)
