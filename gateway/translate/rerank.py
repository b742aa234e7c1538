"""Ranking and scoring requests and replies, in the formats of several APIs."""

from typing import Any

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from gateway.schemas.rerank import FIRST, SECOND, RerankRequest, ScoreRequest
from gateway.translate.embeddings import truncation
from protos.y26hkx.v1 import embed_pb2

COHERE_VERSION = "2"


def documents_of(body: RerankRequest) -> list[str]:
    """
    Raises:
        InvalidRequest: the client sent neither `documents` nor `texts`, or both.
    """
    if (body.documents is None) == (body.texts is None):
        raise InvalidRequest(ErrorText("documents_needed"), param="documents")
    if body.texts is not None:
        return body.texts
    return [given if isinstance(given, str) else given.text for given in body.documents or ()]


def rerank_request(body: RerankRequest, documents: list[str]) -> embed_pb2.RerankRequest:
    from_start = (body.truncation_direction or "").lower() == "left"
    return embed_pb2.RerankRequest(
        model=body.model or "",
        query=body.query,
        documents=documents,
        top_n=body.top_n,
        truncate=truncation(body.truncate, from_start=from_start),
        max_document_tokens=body.max_tokens_per_doc,
        raw_scores=_is_raw(body),
        keep_alive_s=body.keep_alive,
    )


def rerank_names(body: RerankRequest) -> dict[str, str]:
    """The client's names of the contract's fields, for errors."""
    return {"queries[0]": "query"} | ({"documents": "texts"} if body.texts is not None else {})


def rerank_reply(
    response: embed_pb2.RerankResponse, body: RerankRequest, documents: list[str], reply_id: str
) -> Any:
    """The reply, in a format for both Cohere and Jina, or in that of text-embeddings-inference."""
    with_text = body.return_documents or body.return_text
    if body.texts is not None:
        return [
            {"index": found.index, "score": found.score}
            | ({"text": documents[found.index]} if with_text else {})
            for found in response.results
        ]
    n_tokens = response.usage.prompt_tokens
    reply = {
        "id": reply_id,
        "object": "list",
        "results": [
            {"index": found.index, "relevance_score": found.score}
            | ({"document": _document(body, found.index)} if with_text else {})
            for found in response.results
        ],
        "meta": {
            "api_version": {"version": COHERE_VERSION},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": n_tokens, "output_tokens": 0},
        },
    }
    return reply | _served(response)


def score_request(body: ScoreRequest) -> embed_pb2.ScoreRequest:
    return embed_pb2.ScoreRequest(
        model=body.model or "",
        queries=_several(body.side(FIRST)[1]),
        documents=_several(body.side(SECOND)[1]),
        truncate=truncation(body.truncate),
        raw_scores=_is_raw(body),
        keep_alive_s=body.keep_alive,
    )


def score_names(body: ScoreRequest) -> dict[str, str]:
    """The client's names of the contract's fields, for errors."""
    names: dict[str, str] = {}
    for theirs, side in (("queries", FIRST), ("documents", SECOND)):
        ours, texts = body.side(side)
        if isinstance(texts, str):
            names[f"{theirs}[0]"] = ours
        names[theirs] = ours
    return names


def score_reply(response: embed_pb2.ScoreResponse, reply_id: str) -> dict[str, Any]:
    data = [
        {"index": index, "object": "score", "score": score}
        for index, score in enumerate(response.scores)
    ]
    return {"id": reply_id, "object": "list", "data": data} | _served(response)


def _is_raw(body: RerankRequest | ScoreRequest) -> bool:
    return bool(body.raw_scores) or body.use_activation is False


def _document(body: RerankRequest, index: int) -> dict[str, Any]:
    given = (body.documents or [])[index]
    return {"text": given} if isinstance(given, str) else given.model_dump()


def _several(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else given


def _served(response: embed_pb2.RerankResponse | embed_pb2.ScoreResponse) -> dict[str, Any]:
    """The fields about model, method and usage."""
    n_tokens = response.usage.prompt_tokens
    found: dict[str, Any] = {
        "model": response.model.id,
        "method": response.method,
        "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        "system_fingerprint": response.model.fingerprint,
    }
    if response.truncated:
        found["truncated"] = list(response.truncated)
    return found
