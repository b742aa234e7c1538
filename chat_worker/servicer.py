"""`ChatService`: leases the model, sends the call to its engine process, and packs the events.

There is no timer for slow readers: while one message is being written, events accumulate, and the
next message carries all of them.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any, TypeAlias, TypeVar

import grpc.aio

from chat_worker import pipe_messages as m
from chat_worker.call_stream import GenerateStream
from chat_worker.engine_spans import trace_engine
from chat_worker.large_requests import LargeRequests
from chat_worker.translate import to_conversation, to_events, to_generate
from common import tracing
from common.error_texts import ErrorText
from common.errors import Overloaded
from protos.y26hkx.v1 import chat_pb2 as pb
from protos.y26hkx.v1.chat_pb2_grpc import ChatServiceServicer
from worker_runtime.lifecycle.leases import Lease
from worker_runtime.lifecycle.manager import Models
from worker_runtime.lifecycle.wait_queue import WaitStatus
from worker_runtime.rpc.inflight import InflightRpcs
from worker_runtime.rpc.keep_alive import keep_alive_of

Answer = TypeVar("Answer", m.Tokens, m.RenderedText)
# Quoted, because the class is generic in the stubs but not in the library.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Unary: TypeAlias = pb.TokenizeTextRequest | pb.DetokenizeRequest | pb.ApplyTemplateRequest
FIRST_GUESS_S = 5.0


class RequestSlots:
    """Bounds the requests of a worker, including those that wait.

    Args:
        n_parallel: requests that an engine runs together.
        n_waiting: how many more may wait.
    """

    def __init__(self, n_parallel: int, n_waiting: int) -> None:
        self._n_parallel = n_parallel
        self._most = n_parallel + n_waiting
        self._n_taken = 0
        self._typical_s = FIRST_GUESS_S

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a slot.

        Raises:
            Overloaded: all slots are taken; the error states when one is likely to be free.
        """
        if self._n_taken >= self._most:
            wait_s = min(max(self._typical_s * self._n_taken / self._n_parallel / 2, 1.0), 60.0)
            raise Overloaded(
                ErrorText("requests_queue_full", n_requests=self._n_taken), retry_after_s=wait_s
            )
        clock = asyncio.get_running_loop().time
        self._n_taken += 1
        began_s = clock()
        try:
            yield
        finally:
            self._n_taken -= 1
            self._typical_s += (clock() - began_s - self._typical_s) / 8


class ChatServicer(ChatServiceServicer):
    """Serves the RPCs.

    Args:
        request_slots: bounds the requests.
        inflight_rpcs: counts the calls of a stream.
    """

    def __init__(
        self, models: Models, request_slots: RequestSlots, inflight_rpcs: InflightRpcs
    ) -> None:
        self._models = models
        self._request_slots = request_slots
        self._inflight_rpcs = inflight_rpcs
        self._large = LargeRequests()

    async def Generate(  # noqa: N802 - grpc's names
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncGenerator[pb.GenerateEvent, None]:
        n_bytes = request.ByteSize()
        waiting = _LeaseWaiter(self._models, request.model, keep_alive_of(request))
        with self._request_slots.take():
            body = await self._large.translated(to_generate, request, n_bytes)
            if (span := tracing.current.get()) is not None:
                body.trace = span.headers
            async with waiting.running(), aclosing(waiting.notices()) as notices:
                async for notice in notices:
                    yield pb.GenerateEvent(queued=notice)
                lease = waiting.lease()
                async with (
                    self._large.turn(n_bytes, lease.entry.backend) as turn,
                    aclosing(_relay(lease, body)) as events,
                ):
                    async for event in events:
                        # This one is prepared, so the next large request may go to the engine.
                        turn.end()
                        yield event

    async def GenerateMany(  # type: ignore[override]  # noqa: N802 - the stubs know generators only
        self, request_iterator: AsyncIterator[pb.GenerateCalls], context: Context
    ) -> None:
        def serve(request: pb.GenerateRequest) -> AsyncGenerator[pb.GenerateEvent, None]:
            return self.Generate(request, context)

        await GenerateStream(serve, self._inflight_rpcs).run(request_iterator, context)

    async def Tokenize(  # noqa: N802
        self, request: pb.TokenizeTextRequest, context: Context
    ) -> pb.TokenizeTextResponse:
        body = m.Tokenize(request.text, request.add_special, request.parse_special)
        tokens = await self._unary(request, body, m.Tokens)
        return pb.TokenizeTextResponse(tokens=tokens.ids, pieces=tokens.pieces)

    async def Detokenize(  # noqa: N802
        self, request: pb.DetokenizeRequest, context: Context
    ) -> pb.DetokenizeResponse:
        text = await self._unary(request, m.Detokenize(list(request.tokens)), m.RenderedText)
        return pb.DetokenizeResponse(text=text.text)

    async def ApplyTemplate(  # noqa: N802
        self, request: pb.ApplyTemplateRequest, context: Context
    ) -> pb.ApplyTemplateResponse:
        conversation = await self._large.translated(
            to_conversation, request.conversation, request.ByteSize()
        )
        text = await self._unary(request, m.ApplyTemplate(conversation), m.RenderedText)
        return pb.ApplyTemplateResponse(
            prompt=text.text,
            n_tokens=len(text.tokens),
            tokens=text.tokens,
            pieces=text.pieces,
        )

    async def _unary(self, request: Unary, body: m.EngineRequest, expected: type[Answer]) -> Answer:
        keep_alive_s = keep_alive_of(request)
        with self._request_slots.take():
            async with self._models.lease(request.model, keep_alive_s=keep_alive_s) as lease:
                answer = m.event_decoder.decode(await lease.engine.unary(body))
        assert isinstance(answer, expected), "each request has its one kind of answer"
        return answer


async def _relay(lease: Lease, body: m.Generate) -> AsyncGenerator[pb.GenerateEvent, None]:
    """The engine's events as protobuf; tokens of aborted calls are counted too."""
    n_prompt = n_counted = 0
    async with aclosing(lease.engine.call_batches(body)) as batches:
        async for batch in batches:
            events = [m.event_decoder.decode(raw) for raw in batch]
            for event in events:
                match event:
                    case m.Started(prompt_tokens=n_prompt, cached_tokens=cached):
                        lease.count_tokens(prompt=n_prompt, cached=cached)
                    case m.Delta(n_tokens=n_tokens):
                        n_counted += n_tokens
                        lease.count_tokens(completion=n_tokens)
                    case m.Finished(completion_tokens=completion):
                        # A remote server reports the number of prompt tokens only at the end.
                        late = event.prompt_tokens - n_prompt
                        lease.count_tokens(prompt=late, completion=completion - n_counted)
                        trace_engine(event, lease)
            for message in to_events(events, lease.entry, lease.reductions):
                yield message


class _LeaseWaiter:
    """Gets a lease in a task of its own, so that the stream can report the progress meanwhile."""

    def __init__(self, models: Models, model: str, keep_alive_s: float | None) -> None:
        self._models = models
        self._model = model
        self._keep_alive_s = keep_alive_s
        self._notices: deque[WaitStatus] = deque(maxlen=1)  # only the latest status matters
        self._changed = asyncio.Event()
        self._released = asyncio.Event()
        self._lease: Lease | None = None
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The task runs while this block does; the lease ends with the block."""
        self._task = asyncio.create_task(self._hold(), name=f"lease of {self._model or 'default'}")
        self._task.add_done_callback(lambda _: self._changed.set())
        try:
            yield
        finally:
            self._released.set()
            if self._lease is None:
                self._task.cancel()
            # `lease` has raised its error to the stream; here it only has to end.
            await asyncio.wait({self._task})

    async def notices(self) -> AsyncGenerator[pb.Queued, None]:
        """Status events for the client until the lease is granted or refused."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._lease is not None or (self._task is not None and self._task.done()):
                return
            while self._notices:
                yield _queued(self._notices.popleft())

    def lease(self) -> Lease:
        """The lease, once `notices` has ended; raises what `Models.lease` raised."""
        if self._lease is None:
            assert self._task is not None, "called inside `running`"
            self._task.result()
        assert self._lease is not None, "the task ends before it is released only by raising"
        return self._lease

    async def _hold(self) -> None:
        async with self._models.lease(
            self._model, keep_alive_s=self._keep_alive_s, on_wait=self._note
        ) as lease:
            self._lease = lease
            self._changed.set()
            await self._released.wait()

    def _note(self, waiting: WaitStatus) -> None:
        self._notices.append(waiting)
        self._changed.set()


def _queued(waiting: WaitStatus) -> pb.Queued:
    return pb.Queued(
        position=waiting.position,
        reason=waiting.reason,
        estimated_wait_s=waiting.estimated_wait_s,
        load_fraction=waiting.load_fraction if waiting.reason == "load" else None,
        stage=waiting.load_stage,
    )
