"""What routes that call an embedding worker have in common."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from starlette.requests import Request

from common.error_texts import ErrorText
from common.errors import InvalidRequest, ModelNotFound
from gateway.errors import shorten
from gateway.middleware.request_context import context_of
from gateway.pool.embed_stream import is_small
from gateway.pool.endpoint import Endpoint
from gateway.routes.ignored_header import header_of_names
from gateway.routes.traced_calls import note_embedding, traced_embedding
from gateway.routes.unary import answer_from
from gateway.schemas.base import ApiModel
from gateway.schemas.ignored import ignored_fields
from gateway.services import Services, services_of
from gateway.translate.token_estimate import Inputs, tokens_of_inputs
from protos.y26hkx.v1 import common_pb2, embed_pb2

# Clients accept 8 KiB in a header line; the body names all inputs.
MAX_NAMED = 1000
Answered = TypeVar(
    "Answered", embed_pb2.EmbedResponse, embed_pb2.RerankResponse, embed_pb2.ScoreResponse
)


async def ask(
    request: Request,
    message: Inputs,
    send: Callable[[Endpoint, dict[str, Any]], Awaitable[Answered]],
    names: Mapping[str, str] | None = None,
) -> Answered:
    """The answer of a worker to `message`, within the limits of the client's key.

    Args:
        send: makes the call on an endpoint, with keyword arguments for metadata and timeout.
        names: the client's names of the contract's fields, for errors.
    """
    services, context = services_of(request), context_of(request.scope)
    if (guard := services.guard_of(context)) is not None:
        await guard.check(message)
    lease, states = await services.budgets.reserve(
        context.key, "embeddings", message.model, tokens_of_inputs(message)
    )
    context.limits += states
    measures = services.metrics.measures
    began_s = time.perf_counter()
    measures.overhead.observe(began_s - context.arrived_s)
    try:
        small = isinstance(message, embed_pb2.EmbedRequest) and is_small(message)
        with traced_embedding(message) as span:
            response = await _answer(request, message.model, send, names or {}, is_small=small)
            lease.model, lease.prompt_tokens = response.model.id, response.usage.prompt_tokens
            note_embedding(span, lease.model, lease.prompt_tokens)
    finally:
        lease.close()
    services.metrics.count_tokens(common_pb2.Usage(prompt_tokens=lease.prompt_tokens))
    model = measures.models[lease.model]
    model.embedding.observe(time.perf_counter() - began_s)
    model.embedding_tokens.observe(lease.prompt_tokens)
    measures.keys[context.key_label].prompt_tokens += lease.prompt_tokens
    return response


async def _answer(
    request: Request,
    model: str,
    send: Callable[[Endpoint, dict[str, Any]], Awaitable[Answered]],
    names: Mapping[str, str],
    *,
    is_small: bool,
) -> Answered:
    """The answer of a worker; its errors name fields as the client does."""
    services = services_of(request)
    try:
        return await answer_from(request, services.pool.embed, model, send, is_small=is_small)
    except ModelNotFound:
        if model and any(endpoint.lists(model) for endpoint in services.pool.chat.serving):
            raise _chats(model) from None
        raise
    except InvalidRequest as error:
        for name, theirs in names.items():
            if error.param is not None and error.param.startswith(name):
                error.param = theirs + error.param.removeprefix(name)
                break
        raise


def _chats(model: str) -> InvalidRequest:
    return InvalidRequest(
        ErrorText("model_makes_no_vectors", model=shorten(model)),
        param="model",
        suggestions=(
            ErrorText("use_chat_endpoint"),
            ErrorText("use_embedding_model"),
        ),
    )


async def embed_tokens(
    request: Request, message: embed_pb2.TokenizeRequest
) -> Sequence[embed_pb2.TokenizedText]:
    """The tokens of each text, from the tokenizer of an embedding model."""
    response: embed_pb2.TokenizeResponse = await answer_from(
        request,
        services_of(request).pool.embed,
        message.model,
        lambda endpoint, options: endpoint.embed.Tokenize(message, **options),
    )
    return response.tokens


def embeds(services: Services, model: str) -> bool:
    """Whether an embedding worker lists `model`."""
    return bool(model) and any(endpoint.lists(model) for endpoint in services.pool.embed.serving)


def check_chats(services: Services, model: str) -> None:
    """
    Raises:
        InvalidRequest: `model` is an embedding model.
    """
    chats = any(endpoint.lists(model) for endpoint in services.pool.chat.serving)
    if not chats and embeds(services, model):
        raise InvalidRequest(
            ErrorText("model_does_not_chat", model=shorten(model)),
            param="model",
            suggestions=(ErrorText("use_embeddings_endpoint"), ErrorText("use_chat_model")),
        )


def headers(
    response: embed_pb2.EmbedResponse | embed_pb2.RerankResponse | embed_pb2.ScoreResponse,
    body: ApiModel,
    ignored: Sequence[str] = (),
) -> dict[str, str]:
    """Response headers: the model's fingerprint and precision, ignored fields and cut inputs.

    Args:
        ignored: fields that have no effect on this model.
    """
    found = {"x-model-fingerprint": response.model.fingerprint}
    if precision := response.model.precision:
        measured = response.model.HasField("cosine")
        cosine = f"; cosine to float32 {response.model.cosine:.6f}" if measured else ""
        found["x-model-precision"] = f"{precision}{cosine}"
    if names := header_of_names({*ignored_fields(body), *ignored}):
        found["x-ignored-parameters"] = names
    if response.truncated:
        cut = ", ".join(str(index) for index in response.truncated[:MAX_NAMED])
        found["x-truncated-inputs"] = cut
    return found
