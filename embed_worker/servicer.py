"""`EmbedService` over the lifecycle: lease the model, pass the call to its encoder process."""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import grpc.aio

from embed_worker import messages as m
from embed_worker.translate import (
    check_count,
    to_embed,
    to_embed_response,
    to_rerank,
    to_rerank_response,
)
from protos.y26hkx.v1 import embed_pb2 as pb
from protos.y26hkx.v1.embed_pb2_grpc import EmbedServiceServicer
from worker_runtime.leases import Lease
from worker_runtime.lifecycle import Models

Answer = TypeVar("Answer", m.Vectors, m.Ranking, m.TokenLists)
# Quoted: the stubs make it generic, the library does not.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class EmbedServicer(EmbedServiceServicer):
    """
    Args:
        served_id: the id of the model that serves requests for a name (raises ModelNotFound).
        max_inputs: inputs of one request.
    """

    def __init__(self, models: Models, served_id: Callable[[str], str], *, max_inputs: int) -> None:
        self._models = models
        self._served_id = served_id
        self._max_inputs = max_inputs

    async def Embed(  # noqa: N802 - grpc's names
        self, request: pb.EmbedRequest, context: Context
    ) -> pb.EmbedResponse:
        check_count(len(request.inputs), self._max_inputs, "input")
        body = to_embed(request)
        keep_alive_s = request.keep_alive_s if request.HasField("keep_alive_s") else None
        model = self._served_id(request.model)
        async with self._models.lease(model, keep_alive_s=keep_alive_s) as lease:
            answer = await _ask(lease, body, m.Vectors)
            lease.count_tokens(prompt=sum(answer.token_counts), cached=answer.n_cached_tokens)
            return to_embed_response(answer, lease.entry)

    async def Rerank(  # noqa: N802
        self, request: pb.RerankRequest, context: Context
    ) -> pb.RerankResponse:
        check_count(len(request.documents), self._max_inputs, "documents")
        body = to_rerank(request)
        async with self._models.lease(self._served_id(request.model)) as lease:
            answer = await _ask(lease, body, m.Ranking)
            lease.count_tokens(prompt=answer.n_tokens, cached=answer.n_cached_tokens)
            return to_rerank_response(answer, lease.entry)

    async def Tokenize(  # noqa: N802
        self, request: pb.TokenizeRequest, context: Context
    ) -> pb.TokenizeResponse:
        check_count(len(request.texts), self._max_inputs, "input")
        body = m.Tokenize(list(request.texts))
        async with self._models.lease(self._served_id(request.model)) as lease:
            answer = await _ask(lease, body, m.TokenLists)
        return pb.TokenizeResponse(tokens=[pb.TokenIdList(ids=ids) for ids in answer.ids])


async def _ask(lease: Lease, body: m.Request, expected: type[Answer]) -> Answer:
    answer = m.event_decoder.decode(await lease.engine.unary(body))
    assert isinstance(answer, expected), "each request has its one kind of answer"
    return answer
