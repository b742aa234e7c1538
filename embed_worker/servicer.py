"""`EmbedService`: leases the model, and sends the call to its encoder process."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeAlias, TypeVar

import grpc.aio

from common.errors import WorkerLost
from common.tracing import step
from embed_worker import pipe_messages as m
from embed_worker.call_stream import EmbedStream
from embed_worker.direct_streams.worker_end import serve_direct_stream
from embed_worker.encoder_choice import EncoderChoice
from embed_worker.translate import (
    check_count,
    reranked,
    scored,
    served_model,
    to_embed,
    to_embed_response,
    to_rerank_response,
    to_score_response,
    to_tokenize,
    to_tokenize_response,
)
from protos.y26hkx.v1 import embed_pb2 as pb
from protos.y26hkx.v1.embed_pb2_grpc import EmbedServiceServicer
from worker_runtime.lifecycle.leases import Lease
from worker_runtime.lifecycle.manager import Models
from worker_runtime.rpc.inflight import InflightRpcs
from worker_runtime.rpc.keep_alive import keep_alive_of

Answer = TypeVar("Answer", m.Vectors, m.Scores, m.TokenLists)
# Quoted, because the class is generic in the stubs but not in the library.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class EmbedServicer(EmbedServiceServicer):
    """Serves the RPCs.

    Args:
        encoder_choice: selects the model of a request.
        inflight_rpcs: counts the calls of a stream.
        max_inputs: the most inputs of one request.
    """

    def __init__(
        self,
        models: Models,
        encoder_choice: EncoderChoice,
        inflight_rpcs: InflightRpcs,
        *,
        max_inputs: int,
    ) -> None:
        self._models = models
        self._encoder_choice = encoder_choice
        self._inflight_rpcs = inflight_rpcs
        self._max_inputs = max_inputs

    async def Embed(  # noqa: N802 - grpc's names
        self, request: pb.EmbedRequest, context: Context
    ) -> pb.EmbedResponse:
        return await self._embed(request)

    async def EmbedMany(  # type: ignore[override]  # noqa: N802 - the stubs know generators only
        self, request_iterator: AsyncIterator[pb.EmbedCalls], context: Context
    ) -> None:
        await EmbedStream(self._embed, self._inflight_rpcs).run(request_iterator, context)

    async def OpenDirectStream(  # noqa: N802
        self, request: pb.DirectStreamRequest, context: Context
    ) -> AsyncIterator[pb.DirectStream]:
        model = self._encoder_choice.embedder(request.model)
        # A drain waits for the stream, which ends by itself then.
        with self._inflight_rpcs.counted(), self._models.standing_lease(model) as lease:
            streams = serve_direct_stream(lease, self._inflight_rpcs.draining, self._max_inputs)
            async with aclosing(streams):
                async for stream in streams:
                    yield stream

    async def Rerank(  # noqa: N802
        self, request: pb.RerankRequest, context: Context
    ) -> pb.RerankResponse:
        check_count(len(request.documents), self._max_inputs, "documents")
        answer, lease = await self._score(request, reranked(request))
        top_n = request.top_n if request.HasField("top_n") else len(answer.scores)
        return to_rerank_response(answer, served_model(lease), top_n)

    async def Score(  # noqa: N802
        self, request: pb.ScoreRequest, context: Context
    ) -> pb.ScoreResponse:
        check_count(len(request.queries), self._max_inputs, "queries")
        check_count(len(request.documents), self._max_inputs, "documents")
        answer, lease = await self._score(request, scored(request))
        return to_score_response(answer, served_model(lease))

    async def Tokenize(  # noqa: N802
        self, request: pb.TokenizeRequest, context: Context
    ) -> pb.TokenizeResponse:
        check_count(len(request.texts), self._max_inputs, "input")
        model = self._encoder_choice.any(request.model)
        _, answer = await self._ask(
            model, keep_alive_of(request), to_tokenize(request), m.TokenLists
        )
        return to_tokenize_response(answer)

    async def _embed(self, request: pb.EmbedRequest) -> pb.EmbedResponse:
        check_count(len(request.inputs), self._max_inputs, "input")
        body = to_embed(request)
        model = self._encoder_choice.embedder(request.model)
        lease, answer = await self._ask(model, keep_alive_of(request), body, m.Vectors)
        lease.count_tokens(prompt=sum(answer.token_counts), cached=answer.n_cached_tokens)
        lease.count_caches(answer.caches)
        return to_embed_response(answer, served_model(lease))

    async def _score(
        self, request: pb.RerankRequest | pb.ScoreRequest, body: m.Score
    ) -> tuple[m.Scores, Lease]:
        model = self._encoder_choice.reranker(request.model)
        lease, answer = await self._ask(model, keep_alive_of(request), body, m.Scores)
        lease.count_tokens(prompt=answer.n_tokens, cached=answer.n_cached_tokens)
        lease.count_caches(answer.caches)
        return answer, lease

    async def _ask(
        self, model: str, keep_alive_s: float | None, body: m.EncoderRequest, expected: type[Answer]
    ) -> tuple[Lease, Answer]:
        """The encoder's answer, and the lease under which it was given, which has ended."""
        try:
            return await self._ask_once(model, keep_alive_s, body, expected)
        except WorkerLost:
            # Computing twice gives the same answer, so a lost call is repeated. Only once: a text
            # that kills every process must not kill them for ever.
            return await self._ask_once(model, keep_alive_s, body, expected)

    async def _ask_once(
        self, model: str, keep_alive_s: float | None, body: m.EncoderRequest, expected: type[Answer]
    ) -> tuple[Lease, Answer]:
        async with self._models.lease(model, keep_alive_s=keep_alive_s) as lease:
            try:
                with step("encode", {"process.pid": lease.engine.pid}):
                    answer = m.event_decoder.decode(await lease.engine.unary(body))
            except WorkerLost:
                # Until the process is known to be dead, the next lease would use it again.
                await lease.engine.wait()
                raise
        assert isinstance(answer, expected), "each request has its one kind of answer"
        return lease, answer
