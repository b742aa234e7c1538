"""The texts of a request that the guard looks at, whichever API it came by."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from gateway.guard.policy import ROLES, Role
from gateway.translate.token_estimate import Inputs
from protos.y26hkx.v1 import chat_pb2, embed_pb2


class InputText(NamedTuple):
    """
    Args:
        param: the request field that it came in.
        replace: puts another text in its place.
    """

    text: str
    role: Role
    param: str
    replace: Callable[[str], None]
    is_json: bool = False


def generation_texts(request: chat_pb2.GenerateRequest) -> Iterator[InputText]:
    """All that a model reads of what clients wrote, but token ids."""
    if request.HasField("conversation"):
        yield from _conversation(request.conversation)
    elif request.HasField("infill"):
        infill = request.infill
        yield from _fields(infill, "user", "prompt", "prefix", "suffix", "begun")
        for file in infill.files:
            yield from _fields(file, "user", "input_extra", "name", "text")
    else:
        yield from _fields(request, "user", "prompt", "prompt")


def input_texts(request: Inputs) -> Iterator[InputText]:
    """All that an embedding model or a reranker reads of what clients wrote, but token ids."""
    if isinstance(request, embed_pb2.EmbedRequest):
        for one in request.inputs:
            yield from _fields(one, "user", "input", "text")
        return
    if isinstance(request, embed_pb2.RerankRequest):
        yield from _fields(request, "user", "query", "query")
    else:
        yield from _each(request.queries, "queries")
    yield from _each(request.documents, "documents")


def has_token_ids(request: chat_pb2.GenerateRequest | Inputs) -> bool:
    if isinstance(request, chat_pb2.GenerateRequest):
        return bool(request.prompt_tokens.ids)
    if isinstance(request, embed_pb2.EmbedRequest):
        return any(one.HasField("tokens") for one in request.inputs)
    return False


def _conversation(conversation: chat_pb2.Conversation) -> Iterator[InputText]:
    for message in conversation.messages:
        role = _role(message.role)
        yield from _fields(message, role, "messages", "content", "reasoning", "name")
        for call in message.tool_calls:
            yield from _fields(call, role, "messages", "arguments", is_json=True)
    for tool in conversation.tools:
        # Whoever offers a tool instructs the model, as a system prompt does.
        yield from _fields(tool, "system", "tools", "description")
        yield from _fields(tool, "system", "tools", "parameters_json", is_json=True)


def _fields(
    message: Any, role: Role, param: str, *names: str, is_json: bool = False
) -> Iterator[InputText]:
    for name in names:
        if text := getattr(message, name):
            yield InputText(text, role, param, partial(setattr, message, name), is_json)


def _each(texts: Any, param: str) -> Iterator[InputText]:
    for at, text in enumerate(texts):
        if text:
            yield InputText(text, "user", param, partial(texts.__setitem__, at))


def _role(role: str) -> Role:
    if role == "developer":
        return "system"
    return next((known for known in ROLES if known == role), "user")
