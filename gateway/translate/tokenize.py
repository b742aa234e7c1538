"""Tokenizer requests as RPC messages, and their replies as vLLM and llama-server write them."""

from collections.abc import Sequence
from typing import Any

from common.error_texts import ErrorText
from common.errors import InvalidRequest, UnsupportedParameter
from gateway.schemas.tokenize import TemplateRequest, TokenizeRequest
from gateway.translate.chat_request import message_of, tool_of
from protos.y26hkx.v1 import chat_pb2, embed_pb2


def template_request(body: TemplateRequest | TokenizeRequest) -> chat_pb2.ApplyTemplateRequest:
    """Raises:
    InvalidRequest: there are no messages.
    """
    if not body.messages:
        raise InvalidRequest(ErrorText("messages_empty"), param="messages")
    request = chat_pb2.ApplyTemplateRequest(
        model=body.model or "",
        conversation=chat_pb2.Conversation(
            messages=[message_of(message, at) for at, message in enumerate(body.messages)],
            tools=[tool_of(tool) for tool in body.tools or []],
        ),
        keep_alive_s=body.keep_alive,
    )
    if body.chat_template_kwargs:
        request.conversation.template_kwargs.update(body.chat_template_kwargs)
    stops_short = body.add_generation_prompt is False and not body.continue_final_message
    if body.begins_anew or stops_short:
        request.conversation.template_kwargs["add_generation_prompt"] = not stops_short
    return request


def tokenize_request(body: TokenizeRequest) -> chat_pb2.TokenizeTextRequest:
    add_special = _add_special(body)
    if add_special is None:
        # As in vLLM, whose name for a text is `prompt`; llama-server, with `content`, adds none.
        add_special = body.prompt is not None
    return chat_pb2.TokenizeTextRequest(
        model=body.model or "",
        text=body.plain_text,
        add_special=add_special,
        parse_special=body.parse_special is not False,
        keep_alive_s=body.keep_alive,
    )


def embed_tokenize_request(body: TokenizeRequest) -> embed_pb2.TokenizeRequest:
    """Raises:
    UnsupportedParameter: special tokens are to be read from the text.
    """
    if body.parse_special:
        raise UnsupportedParameter(ErrorText("special_tokens_are_text"), param="parse_special")
    return embed_pb2.TokenizeRequest(
        model=body.model or "",
        texts=[body.plain_text],
        add_special_tokens=_add_special(body),
        with_pieces=bool(body.with_pieces or body.return_token_strs),
        keep_alive_s=body.keep_alive,
    )


def _add_special(body: TokenizeRequest) -> bool | None:
    return body.add_special if body.add_special_tokens is None else body.add_special_tokens


def tokens_reply(
    body: TokenizeRequest, ids: Sequence[int], pieces: Sequence[bytes], max_model_len: int
) -> dict[str, Any]:
    """`tokens` is a list of ids, or with pieces of objects as llama-server has them."""
    reply: dict[str, Any] = {"count": len(ids), "max_model_len": max_model_len or None}
    texts = [piece.decode("utf-8", "replace") for piece in pieces]
    if body.with_pieces:
        reply["tokens"] = [
            {"id": token, "piece": _piece(piece)} for token, piece in zip(ids, pieces, strict=True)
        ]
    else:
        reply["tokens"] = list(ids)
    if body.return_token_strs:
        reply["token_strs"] = texts
    return reply


def _piece(piece: bytes) -> str | list[int]:
    """The bytes themselves where they are only a part of a character."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)
