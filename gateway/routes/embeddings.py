"""`POST /v1/embeddings`, also as `/embeddings`, and `POST /v1/reload-embeddings`."""

import asyncio
from collections.abc import Iterator

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from common.error_texts import ErrorText
from common.errors import NotReady
from gateway.errors import json_response
from gateway.openapi import takes
from gateway.pool.calls import rescan
from gateway.routes.embedder import ask, headers
from gateway.routes.named_model import parse_for_model
from gateway.schemas.embeddings import EmbeddingRequest
from gateway.services import services_of
from gateway.translate.embeddings import PART_BYTES, embed_request, reply_parts
from protos.y26hkx.v1 import worker_pb2

router = APIRouter()


@router.post("/embeddings", openapi_extra=takes(EmbeddingRequest))
@router.post("/v1/embeddings", openapi_extra=takes(EmbeddingRequest))
async def embeddings(request: Request) -> Response:
    """Compute vectors of texts."""
    services = services_of(request)
    services.metrics.embeddings_requests.inc()
    body = await parse_for_model(request, EmbeddingRequest)
    message = embed_request(body)
    # The message has it, in a fourth of the memory where it is token ids.
    body.input = ""
    response = await ask(
        request,
        message,
        lambda endpoint, options: endpoint.embed.Embed(message, **options),
        {"max_tokens": "truncate_prompt_tokens"},
    )
    return Response(
        await _joined(reply_parts(response, body.encoding_format or "float")),
        media_type="application/json",
        headers=headers(response, body, response.ignored),
    )


async def _joined(parts: Iterator[bytes]) -> bytes:
    """All parts joined. Other requests run between large parts: to write 2,048 vectors as floats
    takes 80 ms."""
    made = []
    for part in parts:
        made.append(part)
        if len(part) >= PART_BYTES:
            await asyncio.sleep(0)
    return b"".join(made)


@router.post("/v1/reload-embeddings")
async def reload_embeddings(request: Request) -> Response:
    """Scan the models folder again, on every embedding worker."""
    services = services_of(request)
    workers = services.pool.embed.serving
    if not workers:
        raise NotReady(ErrorText("no_embedding_worker"), retry_after_s=2)
    found: dict[str, worker_pb2.Model] = {}
    ttl_s = 0.0
    for endpoint in workers:
        scan = await rescan(endpoint, services.settings.request_timeout_s)
        found |= {model.id: model for model in scan.models}
        ttl_s = scan.ttl_s
    default = next((model.id for model in found.values() if model.is_default), None)
    body = {
        "refreshed": True,
        "models": list(found),
        "default_model": default,
        "ttl_seconds": int(ttl_s),
    }
    return json_response(body)
