"""`POST /tokenize`, `/detokenize`, `/apply-template`: the models' own tokenizers and templates."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from common.model_ids import same_model_id
from gateway.errors import json_response
from gateway.openapi import takes
from gateway.pool.endpoint import Endpoint
from gateway.pool.workers import Workers
from gateway.routes.embedder import check_chats, embed_tokens, embeds
from gateway.routes.named_model import parse_for_model
from gateway.routes.unary import answer_from
from gateway.schemas.tokenize import DetokenizeRequest, TemplateRequest, TokenizeRequest
from gateway.services import services_of
from gateway.translate.tokenize import (
    embed_tokenize_request,
    template_request,
    tokenize_request,
    tokens_reply,
)
from protos.y26hkx.v1 import chat_pb2

T = TypeVar("T")

router = APIRouter()


@router.post("/tokenize", openapi_extra=takes(TokenizeRequest))
async def tokenize(request: Request) -> Response:
    """Token ids of a text, or of a conversation in the model's template."""
    body = await parse_for_model(request, TokenizeRequest)
    services = services_of(request)
    if embeds(services, body.model or ""):
        return await _tokenize_for_embedding(request, body)
    n_ctx = _context_length(services.pool.chat, body.model or "")
    if body.messages is None:
        text = tokenize_request(body)
        found = await _ask(request, text.model, lambda e, o: e.chat.Tokenize(text, **o))
        return json_response(tokens_reply(body, found.tokens, found.pieces, n_ctx))
    asked = template_request(body)
    applied = await _ask(request, asked.model, lambda e, o: e.chat.ApplyTemplate(asked, **o))
    return json_response(tokens_reply(body, applied.tokens, applied.pieces, n_ctx))


@router.post("/detokenize", openapi_extra=takes(DetokenizeRequest))
async def detokenize(request: Request) -> Response:
    """The text of token ids."""
    body = await parse_for_model(request, DetokenizeRequest)
    asked = chat_pb2.DetokenizeRequest(
        model=body.model or "", tokens=body.tokens, keep_alive_s=body.keep_alive
    )
    found = await _ask(request, asked.model, lambda e, o: e.chat.Detokenize(asked, **o))
    # The field names of vLLM and of llama-server.
    return json_response({"prompt": found.text, "content": found.text})


@router.post("/apply-template", openapi_extra=takes(TemplateRequest))
async def apply_template(request: Request) -> Response:
    """Render a conversation with the model's template."""
    asked = template_request(await parse_for_model(request, TemplateRequest))
    found = await _ask(request, asked.model, lambda e, o: e.chat.ApplyTemplate(asked, **o))
    return json_response({"prompt": found.prompt, "n_tokens": found.n_tokens})


async def _tokenize_for_embedding(request: Request, body: TokenizeRequest) -> Response:
    """The tokens of an embedding model, with special tokens unless the client excludes them."""
    if body.messages is not None:
        raise InvalidRequest(ErrorText("no_messages_to_embed"), param="messages")
    message = embed_tokenize_request(body)
    (found,) = await embed_tokens(request, message)
    most = _context_length(services_of(request).pool.embed, message.model)
    pieces = [piece.encode() for piece in found.pieces]
    return json_response(tokens_reply(body, found.ids, pieces, most))


def _context_length(workers: Workers, model: str) -> int:
    """The context length of `model`, or of the default model; 0: unknown."""
    for known in workers.models().values():
        if same_model_id(known.id, model) if model else known.is_default:
            return known.context_length
    return 0


async def _ask(
    request: Request, model: str, send: Callable[[Endpoint, dict[str, Any]], Awaitable[T]]
) -> T:
    check_chats(services_of(request), model)
    return await answer_from(request, services_of(request).pool.chat, model, send)
