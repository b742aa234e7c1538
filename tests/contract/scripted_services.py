"""The contract's services of a scripted worker: they record calls, and answer by its scripts."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import grpc

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
from tests.contract.worker_scripts import EMBED, PROMPT_TOKENS
from worker_runtime.rpc.inflight import InflightRpcs

if TYPE_CHECKING:
    from tests.contract.scripted_worker import ScriptedWorker

# Of a call that shares a stream: its own metadata.
_on_stream: ContextVar[dict[str, str]] = ContextVar("on_stream")


def rising(n: int) -> list[float]:
    """Scores of n documents: the last is the best."""
    return [(index + 1) / n for index in range(n)]


class ScriptedChat(chat_pb2_grpc.ChatServiceServicer):
    def __init__(self, worker: "ScriptedWorker") -> None:
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


class ScriptedEmbed(embed_pb2_grpc.EmbedServiceServicer):
    def __init__(self, worker: "ScriptedWorker") -> None:
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


class ScriptedControl(worker_pb2_grpc.WorkerServiceServicer):
    def __init__(self, worker: "ScriptedWorker") -> None:
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
    sent = {key: str(value) for key, value in context.invocation_metadata() or ()}
    return sent | _on_stream.get({})


async def _abort(context: Any, error: ServingError) -> None:
    details = to_status(error).SerializeToString()
    await context.abort(
        grpc.StatusCode[error.grpc_status],
        str(error),
        trailing_metadata=((DETAILS_KEY, details),),
    )
