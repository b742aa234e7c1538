"""A worker that does as it is told: the contract's services over a real socket, no model.

    async with ScriptedWorker(generate=my_script) as worker:
        ... worker.port

Scripts are plain functions, so a test reads as what the worker does. `worker.calls` tells what
arrived and how it ended. Also fit as a null worker for benchmarks: the defaults answer at once.
"""

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from chat_worker.call_stream import GenerateStream
from common.errors import ServingError
from common.rpc_limits import REQUEST_ID_KEY
from common.rpc_status import DETAILS_KEY, to_status
from protos.y26hkx.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    common_pb2,
    embed_pb2,
    embed_pb2_grpc,
    worker_pb2,
    worker_pb2_grpc,
)
from worker_runtime.rpc.inflight import InflightRpcs

CHAT_ID, EMBED_ID = "qwen-scripted", "embed-scripted"
CHAT = common_pb2.ServedModel(id=CHAT_ID, backend="script", fingerprint="fp_00000000000000c0")
EMBED = common_pb2.ServedModel(id=EMBED_ID, backend="script", fingerprint="fp_00000000000000e0")
DIMENSION = 4
PROMPT_TOKENS = 3
OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
)


# Of a call that shares a stream: its own metadata.
_on_stream: ContextVar[dict[str, str]] = ContextVar("on_stream")


@dataclass
class Call:
    """One call as the worker saw it."""

    request: Any
    metadata: dict[str, str]
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


Generate = Callable[[chat_pb2.GenerateRequest], AsyncIterator[chat_pb2.GenerateEvent]]
Embed = Callable[[embed_pb2.EmbedRequest], Awaitable[embed_pb2.EmbedResponse]]
Load = Callable[[worker_pb2.LoadModelRequest], AsyncIterator[worker_pb2.LoadProgress]]


def queued(position: int, reason: str = "queue") -> chat_pb2.GenerateEvent:
    return chat_pb2.GenerateEvent(queued=chat_pb2.Queued(position=position, reason=reason))


def started(**fields: Any) -> chat_pb2.GenerateEvent:
    begun = chat_pb2.Started(model=CHAT, prompt_tokens=PROMPT_TOKENS, **fields)
    return chat_pb2.GenerateEvent(started=begun)


def delta(text: str = "", choice: int = 0, **fields: Any) -> chat_pb2.GenerateEvent:
    piece = chat_pb2.Delta(choice=choice, text=text, n_tokens=1, **fields)
    return chat_pb2.GenerateEvent(delta=piece)


def finished(
    n_tokens: int, n: int = 1, reason: str = "REASON_LENGTH", cached: int = 0
) -> chat_pb2.GenerateEvent:
    value = chat_pb2.ChoiceEnd.Reason.Value(reason)
    usage = common_pb2.Usage(
        prompt_tokens=PROMPT_TOKENS, completion_tokens=n_tokens, cached_tokens=cached
    )
    ends = [chat_pb2.ChoiceEnd(choice=number, reason=value) for number in range(n)]
    return chat_pb2.GenerateEvent(finished=chat_pb2.Finished(choices=ends, usage=usage))


async def count_up(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
    """`max_tokens` tokens "0 1 2 …" for every choice, at once."""
    n = request.n or 1
    yield started()
    for token in range(request.max_tokens):
        for choice in range(n):
            yield delta(f"{token} ", choice)
    yield finished(request.max_tokens * n, n)


async def row_numbers(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
    """The vector of input i is (i, 1, 0, 0)."""
    n = len(request.inputs)
    rows = b"".join(struct.pack("<4f", float(i), 1.0, 0.0, 0.0) for i in range(n))
    return embed_pb2.EmbedResponse(
        model=EMBED,
        vectors=rows,
        dimension=DIMENSION,
        token_counts=[2] * n,
        usage=common_pb2.Usage(prompt_tokens=2 * n),
    )


def loading(fraction: float, stage: str) -> worker_pb2.LoadProgress:
    state = worker_pb2.MODEL_STATE_LOADING
    return worker_pb2.LoadProgress(state=state, fraction=fraction, stage=stage)


async def load_in_two_steps(
    request: worker_pb2.LoadModelRequest,
) -> AsyncIterator[worker_pb2.LoadProgress]:
    yield loading(0.1, "starting")
    yield loading(0.5, "weights")
    yield worker_pb2.LoadProgress(state=worker_pb2.MODEL_STATE_READY, fraction=1)


def rising(n: int) -> list[float]:
    """Scores of n documents: the last is the best."""
    return [(index + 1) / n for index in range(n)]


class ScriptedWorker:
    """
    Args:
        generate: what `Generate` answers; may raise ServingError.
        embed: what `Embed` answers; may raise ServingError.
        load: what `LoadModel` tells; may raise ServingError.
        rescan_error: raised by `RescanModels` instead of an answer.
        score_error: raised by `Rerank` and `Score` instead of an answer.
        truncated: documents that those say were cut.
        chat_ids: chat models it lists.
        memory: what its status says of it.
    """

    def __init__(
        self,
        generate: Generate = count_up,
        embed: Embed = row_numbers,
        *,
        load: Load = load_in_two_steps,
        rescan_error: ServingError | None = None,
        score_error: ServingError | None = None,
        truncated: Sequence[int] = (),
        chat_ids: tuple[str, ...] = (CHAT_ID,),
        memory: worker_pb2.Memory | None = None,
    ) -> None:
        self.generate = generate
        self.embed = embed
        self.load = load
        # More of what its first chat model says of itself, and its embedding model.
        self.facts: dict[str, Any] = {}
        self.embed_state = worker_pb2.MODEL_STATE_UNLOADED
        self.embed_facts: dict[str, Any] = {}
        self.rescan_error = rescan_error
        self.score_error = score_error
        self.truncated = truncated
        self.chat_ids = chat_ids
        self.memory = memory
        self.calls: list[Call] = []
        # How often it was asked to scan its models folder.
        self.n_rescans = 0
        self.arrived = asyncio.Event()
        self.host = "scripted"
        self.port = 0
        self._health = health_aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self.stopping = asyncio.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        # A server of gRPC's that is left running keeps Python from ending.
        await self.stop()

    async def start(self, port: int = 0) -> int:
        """Listen on loopback; the port."""
        server = self._server = grpc.aio.server(options=OPTIONS)
        self.stopping = asyncio.Event()
        chat_pb2_grpc.add_ChatServiceServicer_to_server(_Chat(self), server)
        embed_pb2_grpc.add_EmbedServiceServicer_to_server(_Embed(self), server)
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(_Worker(self), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        await self.set_serving(True)
        self.port = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        return self.port

    async def stop(self) -> None:
        """Drop everything, as a killed process does."""
        self.stopping.set()
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def set_serving(self, serving: bool) -> None:
        states = health_pb2.HealthCheckResponse
        await self._health.set("", states.SERVING if serving else states.NOT_SERVING)

    async def next_call(self) -> Call:
        """The latest call, once there is one."""
        async with asyncio.timeout(10):
            await self.arrived.wait()
        return self.calls[-1]

    def record(self, request: Any, context: Any) -> Call:
        call = Call(request, metadata_of(context) | _on_stream.get({}))
        self.calls.append(call)
        self.arrived.set()
        return call

    def models(self) -> list[worker_pb2.Model]:
        chat = [
            worker_pb2.Model(
                id=model,
                capability=worker_pb2.CAPABILITY_CHAT,
                is_default=at == 0,
                counters=worker_pb2.ModelCounters(loads=2, load_failures=1, load_seconds_sum=3),
                **({"state": worker_pb2.MODEL_STATE_READY} | ({} if at else self.facts)),
            )
            for at, model in enumerate(self.chat_ids)
        ]
        embed = worker_pb2.Model(
            id=EMBED_ID,
            capability=worker_pb2.CAPABILITY_EMBED,
            state=self.embed_state,
            is_default=True,
            **self.embed_facts,
        )
        return [*chat, embed]


class _Chat(chat_pb2_grpc.ChatServiceServicer):
    def __init__(self, worker: ScriptedWorker) -> None:
        self._worker = worker

    async def Generate(  # noqa: N802 - gRPC's name
        self, request: chat_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[chat_pb2.GenerateEvent]:
        try:
            async for event in self._events(request, context):
                yield event
        except ServingError as error:
            await _abort(context, error)

    async def GenerateMany(  # type: ignore[override]  # noqa: N802 - the stubs know generators only
        self, request_iterator: AsyncIterator[chat_pb2.GenerateCalls], context: Any
    ) -> None:
        stream = _Stream(lambda request: self._events(request, context), InflightRpcs())
        await stream.run(request_iterator, context)

    async def _events(
        self, request: chat_pb2.GenerateRequest, context: Any
    ) -> AsyncGenerator[chat_pb2.GenerateEvent, None]:
        call = self._worker.record(request, context)
        answered = False
        try:
            async for event in self._worker.generate(request):
                yield event
            answered = True
        except ServingError:
            answered = True
            raise
        finally:
            # A cancelled call that was just sending is closed, not thrown a CancelledError.
            if not answered:
                call.cancelled.set()
            call.ended.set()

    async def ApplyTemplate(  # noqa: N802 - gRPC's name
        self, request: chat_pb2.ApplyTemplateRequest, context: Any
    ) -> chat_pb2.ApplyTemplateResponse:
        self._worker.record(request, context)
        return chat_pb2.ApplyTemplateResponse(prompt="prompt", n_tokens=PROMPT_TOKENS)

    async def Tokenize(  # noqa: N802 - gRPC's name
        self, request: chat_pb2.TokenizeTextRequest, context: Any
    ) -> chat_pb2.TokenizeTextResponse:
        self._worker.record(request, context)
        return chat_pb2.TokenizeTextResponse(tokens=range(PROMPT_TOKENS))

    async def Detokenize(  # noqa: N802 - gRPC's name
        self, request: chat_pb2.DetokenizeRequest, context: Any
    ) -> chat_pb2.DetokenizeResponse:
        self._worker.record(request, context)
        return chat_pb2.DetokenizeResponse(text="text")


class _Embed(embed_pb2_grpc.EmbedServiceServicer):
    def __init__(self, worker: ScriptedWorker) -> None:
        self._worker = worker

    async def Embed(  # noqa: N802 - gRPC's name
        self, request: embed_pb2.EmbedRequest, context: Any
    ) -> embed_pb2.EmbedResponse:
        call = self._worker.record(request, context)
        try:
            return await self._worker.embed(request)
        except ServingError as error:
            await _abort(context, error)
            raise AssertionError("abort always raises") from error
        except asyncio.CancelledError:
            call.cancelled.set()
            raise
        finally:
            call.ended.set()

    # It is a worker from before there were streams: `test_embed_stream.py` and
    # `test_direct_stream.py` are about those.
    EmbedMany = embed_pb2_grpc.EmbedServiceServicer.EmbedMany
    OpenDirectStream = embed_pb2_grpc.EmbedServiceServicer.OpenDirectStream

    async def Rerank(  # noqa: N802 - gRPC's name
        self, request: embed_pb2.RerankRequest, context: Any
    ) -> embed_pb2.RerankResponse:
        self._worker.record(request, context)
        await self._fail(context)
        found = [
            embed_pb2.RankedDocument(index=index, score=score)
            for index, score in enumerate(rising(len(request.documents)))
        ]
        return embed_pb2.RerankResponse(
            model=EMBED,
            results=found[::-1][: request.top_n or None],
            method="cross-encoder",
            usage=common_pb2.Usage(prompt_tokens=7),
            truncated=self._worker.truncated,
        )

    async def Score(  # noqa: N802 - gRPC's name
        self, request: embed_pb2.ScoreRequest, context: Any
    ) -> embed_pb2.ScoreResponse:
        self._worker.record(request, context)
        await self._fail(context)
        return embed_pb2.ScoreResponse(
            model=EMBED,
            scores=rising(len(request.documents)),
            method="cosine",
            usage=common_pb2.Usage(prompt_tokens=7),
            truncated=self._worker.truncated,
        )

    async def Tokenize(  # noqa: N802 - gRPC's name
        self, request: embed_pb2.TokenizeRequest, context: Any
    ) -> embed_pb2.TokenizeResponse:
        self._worker.record(request, context)
        found = [embed_pb2.TokenizedText(ids=range(len(text))) for text in request.texts]
        return embed_pb2.TokenizeResponse(tokens=found)

    async def _fail(self, context: Any) -> None:
        if self._worker.score_error is not None:
            await _abort(context, self._worker.score_error)


class _Worker(worker_pb2_grpc.WorkerServiceServicer):
    def __init__(self, worker: ScriptedWorker) -> None:
        self._worker = worker

    async def WatchStatus(  # noqa: N802 - gRPC's name
        self, request: worker_pb2.WatchStatusRequest, context: Any
    ) -> AsyncIterator[worker_pb2.WorkerStatus]:
        scripted = self._worker
        yield worker_pb2.WorkerStatus(
            worker_id="scripted",
            models=scripted.models(),
            memory=scripted.memory,
            host=scripted.host,
        )
        await self._worker.stopping.wait()

    async def ListModels(  # noqa: N802 - gRPC's name
        self, request: worker_pb2.ListModelsRequest, context: Any
    ) -> worker_pb2.ListModelsResponse:
        return worker_pb2.ListModelsResponse(models=self._worker.models())

    async def LoadModel(  # noqa: N802 - gRPC's name
        self, request: worker_pb2.LoadModelRequest, context: Any
    ) -> AsyncIterator[worker_pb2.LoadProgress]:
        self._worker.record(request, context)
        try:
            async for progress in self._worker.load(request):
                yield progress
        except ServingError as error:
            await _abort(context, error)

    async def UnloadModel(  # noqa: N802 - gRPC's name
        self, request: worker_pb2.UnloadModelRequest, context: Any
    ) -> worker_pb2.UnloadModelResponse:
        self._worker.record(request, context)
        return worker_pb2.UnloadModelResponse(freed_bytes=100, regained_bytes=-5, n_running=2)

    async def RescanModels(  # noqa: N802 - gRPC's name
        self, request: worker_pb2.RescanModelsRequest, context: Any
    ) -> worker_pb2.RescanModelsResponse:
        self._worker.n_rescans += 1
        if self._worker.rescan_error is not None:
            await _abort(context, self._worker.rescan_error)
        embed = [m for m in self._worker.models() if m.capability == worker_pb2.CAPABILITY_EMBED]
        return worker_pb2.RescanModelsResponse(models=embed, ttl_s=300)


class _Stream(GenerateStream):
    async def answer(self, call: chat_pb2.GenerateCall) -> None:
        _on_stream.set({REQUEST_ID_KEY: call.request_id} | dict(call.trace))
        await super().answer(call)


def metadata_of(context: Any) -> dict[str, str]:
    return {key: str(value) for key, value in context.invocation_metadata() or ()}


async def _abort(context: Any, error: ServingError) -> None:
    details = to_status(error).SerializeToString()
    await context.abort(
        grpc.StatusCode[error.grpc_status],
        str(error),
        trailing_metadata=((DETAILS_KEY, details),),
    )
