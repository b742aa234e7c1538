"""`POST /api/chat`."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.openapi import takes
from gateway.routes.ollama.generation import answer, ignored_context, load_or_unload
from gateway.routes.ollama.named import parse_named
from gateway.schemas.ollama.chat import OllamaChatRequest, without_effect
from gateway.services import services_of
from gateway.translate.ollama.reply import Reply
from gateway.translate.ollama.request import chat_request, options_of

router = APIRouter()


@router.post("/api/chat", openapi_extra=takes(OllamaChatRequest, streams="lines"))
async def chat(request: Request) -> Response:
    """Answer a conversation, as JSON lines unless the client wants one object."""
    services = services_of(request)
    body, found = await parse_named(request, OllamaChatRequest)
    reply = Reply(found.name, "chat", may_truncate=body.truncate is not False)
    if not body.messages:
        return await load_or_unload(request, body, found, reply)
    options = options_of(body, found.custom)
    message = chat_request(body, found.custom, options, services.defaults_of(body.model))
    ignored = without_effect(body) | ignored_context(services, found, options)
    return await answer(request, body, message, reply, ignored)
