"""Converts between protobuf and the encoder process's messages. Pure functions."""

import math
from typing import TYPE_CHECKING

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from embed_worker import pipe_messages as m
from protos.y26hkx.v1 import common_pb2, embed_pb2
from protos.y26hkx.v1 import embed_pb2 as pb

if TYPE_CHECKING:
    # The encoder process needs the conversions and no leases.
    from worker_runtime.lifecycle.leases import Lease

TRUNCATE: dict[int, m.Truncate] = {
    embed_pb2.TRUNCATE_UNSPECIFIED: "end",
    embed_pb2.TRUNCATE_END: "end",
    embed_pb2.TRUNCATE_START: "start",
    embed_pb2.TRUNCATE_NONE: "none",
}


def check_count(n_inputs: int, most: int, param: str) -> None:
    """Check the number of inputs.

    Raises:
        InvalidRequest: a request may not have that many inputs.
    """
    if not 1 <= n_inputs <= most:
        raise InvalidRequest(
            ErrorText("too_many_inputs", n_inputs=n_inputs, most=most), param=param
        )


def to_embed(request: pb.EmbedRequest) -> m.Embed:
    return m.Embed(
        inputs=[_to_input(index, given) for index, given in enumerate(request.inputs)],
        truncate=_to_truncate(request.truncate),
        prompt_name=request.prompt_name,
        input_type=request.input_type,
        dimensions=request.dimensions if request.HasField("dimensions") else None,
        max_tokens=request.max_tokens if request.HasField("max_tokens") else None,
    )


def to_embed_response(answer: m.Vectors, model: common_pb2.ServedModel) -> pb.EmbedResponse:
    return pb.EmbedResponse(
        model=model,
        # Of an answer that never crossed the pipe they are another kind of buffer.
        vectors=bytes(answer.vectors),
        dimension=answer.dimension,
        token_counts=answer.token_counts,
        truncated=answer.truncated,
        usage=common_pb2.Usage(
            prompt_tokens=sum(answer.token_counts), cached_tokens=answer.n_cached_tokens
        ),
        ignored=answer.ignored,
    )


def reranked(request: pb.RerankRequest) -> m.Score:
    if request.HasField("top_n") and request.top_n == 0:
        raise InvalidRequest(ErrorText("top_n_zero"), param="top_n")
    most = request.max_document_tokens if request.HasField("max_document_tokens") else None
    return m.Score(
        queries=[request.query],
        documents=list(request.documents),
        truncate=_to_truncate(request.truncate),
        max_document_tokens=most,
        raw_scores=request.raw_scores,
    )


def to_rerank_response(
    answer: m.Scores, model: common_pb2.ServedModel, top_n: int
) -> pb.RerankResponse:
    scores = answer.scores
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[:top_n]
    return pb.RerankResponse(
        model=model,
        results=[pb.RankedDocument(index=index, score=scores[index]) for index in best],
        method=answer.method,
        usage=_usage(answer),
        truncated=answer.truncated,
    )


def scored(request: pb.ScoreRequest) -> m.Score:
    return m.Score(
        queries=list(request.queries),
        documents=list(request.documents),
        truncate=_to_truncate(request.truncate),
        raw_scores=request.raw_scores,
    )


def to_score_response(answer: m.Scores, model: common_pb2.ServedModel) -> pb.ScoreResponse:
    return pb.ScoreResponse(
        model=model,
        scores=answer.scores,
        method=answer.method,
        usage=_usage(answer),
        truncated=answer.truncated,
    )


def to_tokenize(request: pb.TokenizeRequest) -> m.Tokenize:
    add_special = request.add_special_tokens if request.HasField("add_special_tokens") else True
    return m.Tokenize(list(request.texts), add_special=add_special, with_pieces=request.with_pieces)


def to_tokenize_response(answer: m.TokenLists) -> pb.TokenizeResponse:
    pieces = answer.pieces or [[]] * len(answer.ids)
    return pb.TokenizeResponse(
        tokens=[
            pb.TokenizedText(ids=ids, pieces=spelled)
            for ids, spelled in zip(answer.ids, pieces, strict=True)
        ]
    )


def _usage(answer: m.Scores) -> common_pb2.Usage:
    return common_pb2.Usage(prompt_tokens=answer.n_tokens, cached_tokens=answer.n_cached_tokens)


def _to_input(index: int, given: pb.EmbedInput) -> str | list[int]:
    match given.WhichOneof("kind"):
        case "text":
            return given.text
        case "tokens":
            return list(given.tokens.ids)
    raise InvalidRequest(ErrorText("input_of_unknown_kind"), param=f"input[{index}]")


def _to_truncate(value: int) -> m.Truncate:
    if value not in TRUNCATE:
        raise InvalidRequest(ErrorText("truncate_unknown", value=value), param="truncate")
    return TRUNCATE[value]


def served_model(lease: "Lease") -> common_pb2.ServedModel:
    """What responses say of the model that gave them."""
    entry, facts = lease.entry, m.facts_decoder.decode(lease.facts)
    is_measured = facts.precision and not math.isnan(facts.cosine)
    return common_pb2.ServedModel(
        id=entry.id,
        backend=facts.backend,
        fingerprint=entry.fingerprint,
        precision=facts.precision,
        cosine=facts.cosine if is_measured else None,
    )
