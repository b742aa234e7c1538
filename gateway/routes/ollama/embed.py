"""`POST /api/embed`, and the older `/api/embeddings`, which takes one text."""

import asyncio
import math
import time
from collections.abc import Iterator

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import json_response
from gateway.openapi import takes
from gateway.routes.embedder import ask, headers
from gateway.routes.ollama.generation import load_only
from gateway.routes.ollama.named import Named, parse_named
from gateway.schemas.base import HistoryModel, unknown_inside
from gateway.schemas.ollama.models import EmbedRequest, OldEmbedRequest
from gateway.services import services_of
from gateway.translate.embeddings import rows, truncation
from protos.y26hkx.v1 import embed_pb2

router = APIRouter()
NS_PER_S = 1_000_000_000
# Vectors of models that make them of length 1 differ from it by rounding.
ROUNDING = 1e-4
ROWS_AT_ONCE = 64


@router.post("/api/embed", openapi_extra=takes(EmbedRequest))
async def embed(request: Request) -> Response:
    """Compute vectors of length 1 of texts."""
    began_s = time.perf_counter()
    body, found = await parse_named(request, EmbedRequest)
    if not body.inputs:
        await load_only(request, found, body.keep_alive)
        return json_response({"model": found.name, "embeddings": []})
    message = embed_pb2.EmbedRequest(
        model=found.id,
        inputs=[embed_pb2.EmbedInput(text=text) for text in body.inputs],
        dimensions=body.dimensions or None,
        truncate=truncation(body.truncate is not False),
        keep_alive_s=body.keep_alive,
    )
    response = await _ask(request, found, message)
    vectors = await _of_length_1(response)
    reply = {
        "model": found.name,
        "embeddings": vectors,
        "total_duration": round((time.perf_counter() - began_s) * NS_PER_S),
        # The workers do not tell it apart.
        "load_duration": 0,
        "prompt_eval_count": response.usage.prompt_tokens,
    }
    return json_response(reply, headers=headers(response, body, [*_ignored(body)]))


@router.post("/api/embeddings", openapi_extra=takes(OldEmbedRequest))
async def old_embeddings(request: Request) -> Response:
    """Compute the vector of one text, as the model makes it."""
    body, found = await parse_named(request, OldEmbedRequest)
    if not body.prompt:
        await load_only(request, found, body.keep_alive)
        return json_response({"embedding": []})
    message = embed_pb2.EmbedRequest(
        model=found.id,
        inputs=[embed_pb2.EmbedInput(text=body.prompt)],
        truncate=truncation(True),
        keep_alive_s=body.keep_alive,
    )
    response = await _ask(request, found, message)
    (vector,) = rows(response)
    given = headers(response, body, [*_ignored(body)])
    return json_response({"embedding": vector}, headers=given)


async def _ask(
    request: Request, found: Named, message: embed_pb2.EmbedRequest
) -> embed_pb2.EmbedResponse:
    services_of(request).metrics.embeddings_requests.inc()
    return await ask(
        request, message, lambda endpoint, options: endpoint.embed.Embed(message, **options)
    )


def _ignored(body: HistoryModel) -> Iterator[str]:
    """Names of fields that the client set and that change nothing here."""
    yield from unknown_inside(body)
    if (options := getattr(body, "options", None)) is not None:
        yield from (f"options.{name}" for name in options.model_fields_set)


async def _of_length_1(response: embed_pb2.EmbedResponse) -> list[orjson.Fragment]:
    """The JSON of each vector; other requests run between them, for there may be 2,048."""
    made = []
    for number, vector in enumerate(rows(response), 1):
        length = math.hypot(*vector)
        if length and abs(length - 1) > ROUNDING:
            vector = [value / length for value in vector]
        made.append(orjson.Fragment(orjson.dumps(vector)))
        if number % ROWS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return made
