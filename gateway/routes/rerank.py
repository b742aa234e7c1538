"""`POST /v1/rerank` and `POST /v1/score`, also under the paths of other servers."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import json_response
from gateway.openapi import takes
from gateway.routes.embedder import ask, headers
from gateway.routes.generation import new_id
from gateway.routes.named_model import parse_for_model
from gateway.schemas.rerank import RerankRequest, ScoreRequest
from gateway.translate.rerank import (
    documents_of,
    rerank_names,
    rerank_reply,
    rerank_request,
    score_names,
    score_reply,
    score_request,
)

router = APIRouter()


@router.post("/reranking", openapi_extra=takes(RerankRequest))
@router.post("/v1/reranking", openapi_extra=takes(RerankRequest))
@router.post("/rerank", openapi_extra=takes(RerankRequest))
@router.post("/v2/rerank", openapi_extra=takes(RerankRequest))
@router.post("/v1/rerank", openapi_extra=takes(RerankRequest))
async def rerank(request: Request) -> Response:
    """Rank documents by their relevance to a query."""
    body = await parse_for_model(request, RerankRequest)
    documents = documents_of(body)
    message = rerank_request(body, documents)
    response = await ask(
        request,
        message,
        lambda endpoint, options: endpoint.embed.Rerank(message, **options),
        rerank_names(body),
    )
    reply = rerank_reply(response, body, documents, new_id("rerank"))
    return json_response(reply, headers=headers(response, body))


@router.post("/score", openapi_extra=takes(ScoreRequest))
@router.post("/v1/score", openapi_extra=takes(ScoreRequest))
async def score(request: Request) -> Response:
    """Score the relevance of texts to others, pair by pair."""
    body = await parse_for_model(request, ScoreRequest)
    message = score_request(body)
    response = await ask(
        request,
        message,
        lambda endpoint, options: endpoint.embed.Score(message, **options),
        score_names(body),
    )
    reply = score_reply(response, new_id("score"))
    return json_response(reply, headers=headers(response, body))
