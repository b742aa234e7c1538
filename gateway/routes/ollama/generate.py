"""`POST /api/generate`."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.openapi import takes
from gateway.routes.ollama.generation import answer, ignored_context, load_or_unload
from gateway.routes.ollama.named import parse_named
from gateway.schemas.ollama.generate import GenerateRequest, without_effect
from gateway.services import services_of
from gateway.translate.ollama.reply import Reply
from gateway.translate.ollama.request import conversation_of, generate_request, options_of

router = APIRouter()


@router.post("/api/generate", openapi_extra=takes(GenerateRequest, streams="lines"))
async def generate(request: Request) -> Response:
    """Answer a prompt, continue it (`raw`), or fill in what is missing before `suffix`."""
    services = services_of(request)
    body, found = await parse_named(request, GenerateRequest)
    turns = None if body.raw or body.suffix else conversation_of(body, found.custom)
    may_truncate = body.truncate is not False
    reply = Reply(found.name, "generate", conversation=turns, may_truncate=may_truncate)
    if not (body.prompt or body.suffix):
        return await load_or_unload(request, body, found, reply)
    options = options_of(body, found.custom)
    message = generate_request(body, turns, options, services.defaults_of(body.model))
    ignored = without_effect(body) | ignored_context(services, found, options)
    return await answer(request, body, message, reply, ignored)
