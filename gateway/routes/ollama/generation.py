"""What `/api/chat` and `/api/generate` have in common: answers, loads and unloads."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import Response

from common.error_texts import ErrorText
from common.errors import ModelNotFound
from gateway.errors import json_response
from gateway.middleware.request_context import context_of
from gateway.routes.admin_only import require_admin
from gateway.routes.generation import CountedGeneration
from gateway.routes.lifecycle import holders, load, unload_everywhere
from gateway.routes.ollama.named import Named, model_of
from gateway.schemas.lifecycle import LoadRequest
from gateway.schemas.ollama.chat import GenerationFields
from gateway.schemas.ollama.options import Options
from gateway.services import Services, services_of
from gateway.translate.ollama.reply import Reply
from gateway.transport.disconnect import cancel_on_disconnect
from gateway.transport.ndjson import json_lines
from protos.y26hkx.v1 import chat_pb2

NAMES = MappingProxyType({"enable_thinking": "think", "reasoning_effort": "think"})


async def answer(
    request: Request,
    body: GenerationFields,
    message: chat_pb2.GenerateRequest,
    reply: Reply,
    ignored: set[str],
) -> Response:
    """The reply to `message`, whole or as lines.

    Args:
        ignored: names of what the client set and has no effect.
    """
    services = services_of(request)
    limits = services.stream_limits if body.streams else services.plain_limits
    call = CountedGeneration(request, services, body, limits, ignored, NAMES)
    message.cache_salt = call.context.cache_salt
    if not body.streams:
        events = await cancel_on_disconnect(request, call.generation.collect(message))
        return json_response(reply.collect(events), headers=call.header_dict())
    source = call.generation.events(message, reply.lines)
    return json_lines(source, services.sse_limits, call.headers)


def ignored_context(services: Services, named: Named, options: Options) -> set[str]:
    """A context that is longer than the model's: what fits into both is answered all the same."""
    most = model_of(services, named.id).context_length
    return {"options.num_ctx"} if most and (options.num_ctx or 0) > most else set()


async def load_or_unload(
    request: Request, body: GenerationFields, named: Named, reply: Reply
) -> Response:
    """What a request without a prompt asks for: the model in memory, or with `keep_alive` 0 out of
    it."""
    if body.keep_alive == 0:
        require_admin(request)
        model = _own_id(request, named)
        context_of(request.scope).acted_on["model"] = model
        workers = holders(services_of(request), model)
        await unload_everywhere(request, workers, model, force=False)
        return json_response(reply.empty("unload"))
    await load_only(request, named, body.keep_alive)
    return json_response(reply.empty("load"))


async def load_only(request: Request, named: Named, keep_alive_s: float | None) -> None:
    """Return when the model is loaded, on every worker that has it."""
    require_admin(request)
    model = _own_id(request, named)
    workers = holders(services_of(request), model)
    asked = LoadRequest(model=model, keep_alive=keep_alive_s)
    await cancel_on_disconnect(request, _all_of(load(request, workers, asked)))


async def _all_of(events: AsyncGenerator[object, None]) -> None:
    async with aclosing(events):
        async for _ in events:
            pass


def _own_id(request: Request, named: Named) -> str:
    """The id of the model, the default one's included."""
    found = named.id or services_of(request).pool.chat.known_id("")
    if not found:
        raise ModelNotFound(ErrorText("no_model_yet"), param="model")
    return found
