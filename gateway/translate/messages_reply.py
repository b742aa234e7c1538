"""`GenerateEvent`s in Anthropic's format: one message, or named events block after block."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from gateway.translate.reply_parts import reduced
from protos.y26hkx.v1 import chat_pb2, common_pb2

STOP_REASONS = {
    chat_pb2.ChoiceEnd.REASON_UNSPECIFIED: "end_turn",
    chat_pb2.ChoiceEnd.REASON_STOP: "end_turn",
    chat_pb2.ChoiceEnd.REASON_LENGTH: "max_tokens",
    chat_pb2.ChoiceEnd.REASON_TOOL_CALLS: "tool_use",
    chat_pb2.ChoiceEnd.REASON_CONTENT_FILTER: "refusal",
}
THINKING, TEXT = -2, -1


class _Piece(NamedTuple):
    """Part of a content block.

    Args:
        of: THINKING, TEXT, or the number of a tool call; a block ends where another begins.
    """

    of: int
    text: str
    call_id: str = ""
    name: str = ""


def collect(reply_id: str, events: list[chat_pb2.GenerateEvent]) -> dict[str, Any]:
    """The whole reply from all events of a call."""
    reply: dict[str, Any] = {}
    blocks: list[tuple[_Piece, list[str]]] = []
    for event in events:
        match event.WhichOneof("event"):
            case "started":
                reply = _message(reply_id, event.started)
            case "delta":
                for piece in _pieces(event.delta):
                    if not blocks or piece.of != blocks[-1][0].of:
                        blocks.append((piece, []))
                    blocks[-1][1].append(piece.text)
            case "finished":
                reply |= _stop(event.finished) | {"usage": _usage(event.finished.usage)}
    reply["content"] = [_block(first, reply_id, "".join(texts)) for first, texts in blocks]
    return reply


class MessageEvents:
    """Turns events into Anthropic's: JSON bytes of objects that begin with their type."""

    def __init__(self, reply_id: str) -> None:
        self._reply_id = reply_id
        self._index = -1
        self._open: int | None = None

    def of(self, event: chat_pb2.GenerateEvent) -> Iterator[bytes]:
        match event.WhichOneof("event"):
            case "delta":
                for piece in _pieces(event.delta):
                    yield from self._piece_events(piece)
            case "started":
                yield _event("message_start", message=_message(self._reply_id, event.started))
                yield _event("ping")
            case "finished":
                yield from self._end_block()
                usage = _usage(event.finished.usage)
                yield _event("message_delta", delta=_stop(event.finished), usage=usage)
                yield _event("message_stop")

    def _piece_events(self, piece: _Piece) -> Iterator[bytes]:
        if piece.of != self._open:
            yield from self._end_block()
            self._open = piece.of
            self._index += 1
            begun = _block(piece, "", "")
            yield _event("content_block_start", index=self._index, content_block=begun)
        if piece.text:
            yield self._more(_delta(piece))

    def _end_block(self) -> Iterator[bytes]:
        if self._open is None:
            return
        if self._open == THINKING:
            yield self._more({"type": "signature_delta", "signature": self._reply_id})
        yield _event("content_block_stop", index=self._index)
        self._open = None

    def _more(self, delta: dict[str, str]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)


def _pieces(delta: chat_pb2.Delta) -> list[_Piece]:
    found = [_Piece(THINKING, delta.reasoning)] if delta.reasoning else []
    if delta.text:
        found.append(_Piece(TEXT, delta.text))
    return found + [_Piece(p.index, p.arguments, p.id, p.name) for p in delta.tool_calls]


def _block(first: _Piece, signature: str, text: str) -> dict[str, Any]:
    """A content block; any text serves as signature, because clients drop thinking without one."""
    if first.of == THINKING:
        return {"type": "thinking", "thinking": text, "signature": signature}
    if first.of == TEXT:
        return {"type": "text", "text": text}
    call = {"type": "tool_use", "id": first.call_id, "name": first.name}
    return call | {"input": _object(text)}


def _delta(piece: _Piece) -> dict[str, str]:
    if piece.of == THINKING:
        return {"type": "thinking_delta", "thinking": piece.text}
    if piece.of == TEXT:
        return {"type": "text_delta", "text": piece.text}
    return {"type": "input_json_delta", "partial_json": piece.text}


def _object(arguments: str) -> dict[str, Any]:
    """The arguments as an object; empty if they are not JSON, because max_tokens cut them off."""
    try:
        decoded = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _message(reply_id: str, started: chat_pb2.Started) -> dict[str, Any]:
    read = common_pb2.Usage(
        prompt_tokens=started.prompt_tokens, cached_tokens=started.cached_tokens
    )
    return {
        "id": reply_id,
        "type": "message",
        "role": "assistant",
        "model": started.model.id,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(read),
    } | reduced(started)


def _stop(finished: chat_pb2.Finished) -> dict[str, str | None]:
    (end,) = finished.choices
    if end.HasField("stop_sequence"):
        return {"stop_reason": "stop_sequence", "stop_sequence": end.stop_sequence}
    return {"stop_reason": STOP_REASONS[end.reason], "stop_sequence": None}


def _usage(counts: common_pb2.Usage) -> dict[str, Any]:
    """Anthropic's usage, in which `input_tokens` excludes tokens from the cache."""
    return {
        "input_tokens": counts.prompt_tokens - counts.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": counts.cached_tokens,
        "output_tokens": counts.completion_tokens,
        "output_tokens_details": {"thinking_tokens": counts.reasoning_tokens},
    }


def _event(name: str, **fields: Any) -> bytes:
    return orjson.dumps({"type": name, **fields})
