"""`POST /tokenize`, `/detokenize`, `/apply-template`: the models' own tokenizers and templates."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.body import parse
from gateway.errors import json_response
from gateway.openapi import takes
from gateway.pool.calls import unary
from gateway.pool.endpoint import Endpoint
from gateway.presence import while_present
from gateway.request_context import context_of
from gateway.schemas.tokenize import DetokenizeRequest, TemplateRequest, TokenizeRequest
from gateway.services import services_of
from gateway.translate.tokenize import template_request, tokenize_request, tokens_reply
from protos.y26hkx.v1 import chat_pb2

T = TypeVar("T")

router = APIRouter()


@router.post("/tokenize", openapi_extra=takes(TokenizeRequest))
async def tokenize(request: Request) -> Response:
    """Token ids of a text, or of a conversation as the model would see it."""
    body = await parse(request, TokenizeRequest)
    models = services_of(request).pool.chat.models()
    model = body.model or next((m.id for m in models.values() if m.is_default), "")
    n_ctx = models[model].context_length if model in models else 0
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
    body = await parse(request, DetokenizeRequest)
    asked = chat_pb2.DetokenizeRequest(model=body.model or "", tokens=body.tokens)
    found = await _ask(request, asked.model, lambda e, o: e.chat.Detokenize(asked, **o))
    # vLLM's name for it, and llama-server's.
    return json_response({"prompt": found.text, "content": found.text})


@router.post("/apply-template", openapi_extra=takes(TemplateRequest))
async def apply_template(request: Request) -> Response:
    """A conversation as the model's template writes it."""
    asked = template_request(await parse(request, TemplateRequest))
    found = await _ask(request, asked.model, lambda e, o: e.chat.ApplyTemplate(asked, **o))
    return json_response({"prompt": found.prompt, "n_tokens": found.n_tokens})


async def _ask(request: Request, model: str, send: Callable[[Endpoint, Any], Awaitable[T]]) -> T:
    services = services_of(request)
    request_id = context_of(request.scope).request_id
    limit_s = services.settings.request_timeout_s
    return await while_present(request, unary(services.pool.chat, model, request_id, limit_s, send))
