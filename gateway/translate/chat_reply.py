"""`GenerateEvent`s as chat completions: one object, or one chunk after the other."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.translate.reply_parts import FINISH_REASONS, served_by, token_text, usage
from gateway.translate.timings import ReplyTimings
from protos.y26hkx.v1 import chat_pb2

_TEXT_HEAD = b',"choices":[{"index":%d,"delta":{"content":'
_TEXT_TAIL = b'},"logprobs":null,"finish_reason":null}]}'


@dataclass
class ChoiceSoFar:
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str = "stop"

    def add(self, delta: chat_pb2.Delta) -> None:
        self.text.append(delta.text)
        self.reasoning.append(delta.reasoning)
        self.logprobs.extend(logprob(item) for item in delta.logprobs)
        for piece in delta.tool_calls:
            if piece.index == len(self.calls):
                function = {"name": piece.name, "arguments": ""}
                self.calls.append({"id": piece.id, "type": "function", "function": function})
            self.calls[piece.index]["function"]["arguments"] += piece.arguments

    def message(self) -> dict[str, Any]:
        text = "".join(self.text)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if self.calls and not text else text,
            "refusal": None,
        }
        if reasoning := "".join(self.reasoning):
            message["reasoning_content"] = reasoning
        if self.calls:
            message["tool_calls"] = self.calls
        return message


def collect(
    reply_id: str,
    events: list[chat_pb2.GenerateEvent],
    n: int,
    *,
    logprobs: bool,
    timings: ReplyTimings | None = None,
) -> dict[str, Any]:
    """The whole reply from all events of a call.

    Args:
        n: choices asked for.
        logprobs: whether the client asked for them.
        timings: added to the reply, if the client asked for them.
    """
    choices = {number: ChoiceSoFar() for number in range(n)}
    started, finished = chat_pb2.Started(), chat_pb2.Finished()
    for event in events:
        if timings is not None:
            timings.see(event)
        match event.WhichOneof("event"):
            case "started":
                started = event.started
            case "delta":
                choices[event.delta.choice].add(event.delta)
            case "finished":
                finished = event.finished
    for end in finished.choices:
        choices[end.choice].finish_reason = FINISH_REASONS[end.reason]
    reply = {
        "id": reply_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "choices": [
            {
                "index": number,
                "message": made.message(),
                "logprobs": {"content": made.logprobs, "refusal": None} if logprobs else None,
                "finish_reason": made.finish_reason,
            }
            for number, made in choices.items()
        ],
        "usage": usage(finished.usage),
    } | served_by(started)
    return reply if timings is None else reply | {"timings": timings.shown()}


class ChatChunks:
    """Turns events into the bytes of `chat.completion.chunk`s; one string is encoded per token.

    Args:
        timings: added to each chunk but the one without a token, if the client asked for them.
    """

    def __init__(
        self,
        reply_id: str,
        n: int,
        *,
        logprobs: bool,
        with_usage: bool,
        timings: ReplyTimings | None = None,
    ) -> None:
        self._base = {"id": reply_id, "object": "chat.completion.chunk"}
        self._base |= {"created": int(time.time())}  # type: ignore[dict-item]
        self._n = n
        self._logprobs = logprobs
        self._with_usage = with_usage
        self._timings = timings
        self._prefix = self._last_prefix = b""

    def of(self, event: chat_pb2.GenerateEvent) -> Iterator[bytes]:
        if self._timings is not None:
            self._timings.see(event)
        match event.WhichOneof("event"):
            case "delta":
                yield from self._delta(event.delta)
            case "started":
                yield from self._started(event.started)
            case "finished":
                yield from self._finished(event.finished)

    def _started(self, started: chat_pb2.Started) -> Iterator[bytes]:
        base: dict[str, Any] = self._base
        base |= served_by(started)
        # Everything up to "choices" is the same in every chunk.
        self._prefix = orjson.dumps(base)[:-1]
        if self._with_usage:
            # As OpenAI has it: every chunk has the field, the last one alone has the numbers.
            self._last_prefix, self._prefix = self._prefix, self._prefix + b',"usage":null'
        for number in range(self._n):
            yield self._chunk(number, {"role": "assistant", "content": ""}, is_timed=False)

    def _delta(self, delta: chat_pb2.Delta) -> Iterator[bytes]:
        if not (self._logprobs or delta.reasoning or delta.tool_calls or self._timings):
            text = orjson.dumps(delta.text)
            yield self._prefix + _TEXT_HEAD % delta.choice + text + _TEXT_TAIL
            return
        found = [logprob(item) for item in delta.logprobs]
        logprobs = {"content": found, "refusal": None} if self._logprobs else None
        for body in _bodies(delta):
            yield self._chunk(delta.choice, body, logprobs=logprobs)
            logprobs = None

    def _finished(self, finished: chat_pb2.Finished) -> Iterator[bytes]:
        for end in finished.choices:
            yield self._chunk(end.choice, {}, FINISH_REASONS[end.reason])
        if self._with_usage:
            tail = {"choices": [], "usage": usage(finished.usage)} | self._timings_field()
            yield self._last_prefix + b"," + orjson.dumps(tail)[1:]

    def _chunk(
        self,
        number: int,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        logprobs: dict[str, Any] | None = None,
        *,
        is_timed: bool = True,
    ) -> bytes:
        choice = {
            "index": number,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        body = {"choices": [choice]} | (self._timings_field() if is_timed else {})
        return self._prefix + b"," + orjson.dumps(body)[1:]

    def _timings_field(self) -> dict[str, Any]:
        return {} if self._timings is None else {"timings": self._timings.shown()}


def _bodies(delta: chat_pb2.Delta) -> Iterator[dict[str, Any]]:
    """What a delta says, in as many chunks as clients understand: of several calls in one, some
    read only the first."""
    said: dict[str, Any] = {}
    if delta.text or not (delta.reasoning or delta.tool_calls):
        said["content"] = delta.text
    if delta.reasoning:
        said["reasoning_content"] = delta.reasoning
    if said:
        yield said
    for piece in delta.tool_calls:
        yield {"tool_calls": [_call_piece(piece)]}


def _call_piece(piece: chat_pb2.ToolCallDelta) -> dict[str, Any]:
    if not piece.id:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    function = {"name": piece.name, "arguments": piece.arguments}
    return {"index": piece.index, "id": piece.id, "type": "function", "function": function}


def logprob(item: chat_pb2.TokenLogprob) -> dict[str, Any]:
    return _candidate(item.chosen) | {"top_logprobs": [_candidate(c) for c in item.top]}


def _candidate(candidate: chat_pb2.Candidate) -> dict[str, Any]:
    return {
        "token": token_text(candidate),
        "logprob": candidate.logprob,
        "bytes": list(candidate.text),
    }
