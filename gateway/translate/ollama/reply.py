"""`GenerateEvent`s in Ollama's format: one object, or one after the other."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from common.error_texts import ErrorText
from common.errors import ContextLengthExceeded
from gateway.translate.ollama.request import Turn, context_of_turns
from gateway.translate.reply_parts import reduced, token_text
from protos.y26hkx.v1 import chat_pb2

NS_PER_S = 1_000_000_000
END_REASONS = {
    chat_pb2.ChoiceEnd.REASON_LENGTH: "length",
    chat_pb2.ChoiceEnd.REASON_CONTENT_FILTER: "content_filter",
}
Kind = Literal["chat", "generate"]
Part = dict[str, Any]


class Reply:
    """The reply to one request.

    Args:
        name: of the model, as the client wrote it.
        conversation: what the answer continues, to be returned as `context`; None: it is not.
        may_truncate: whether the client lets its input be cut.
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        *,
        conversation: list[Turn] | None = None,
        may_truncate: bool = True,
    ) -> None:
        self._name = name
        self._kind = kind
        self._conversation = conversation
        self._may_truncate = may_truncate
        self._began_s = time.perf_counter()
        self._started = chat_pb2.Started()
        self._calls: list[chat_pb2.ToolCall] = []
        self._text: list[str] = []

    def lines(self, event: chat_pb2.GenerateEvent) -> Iterator[bytes]:
        """The JSON of the objects that the event becomes in a stream."""
        for part in self._parts(event):
            yield orjson.dumps(part)

    def collect(self, events: list[chat_pb2.GenerateEvent]) -> Part:
        """The one object of a reply that is not streamed."""
        parts = [part for event in events for part in self._parts(event)]
        whole, said = parts[-1], self._inside(parts[-1])
        thinking = "".join(self._inside(part).get("thinking", "") for part in parts)
        said[self._text_field] = "".join(self._inside(part)[self._text_field] for part in parts)
        if thinking:
            said["thinking"] = thinking
        if calls := [call for part in parts for call in self._inside(part).get("tool_calls", [])]:
            said["tool_calls"] = calls
        if logprobs := [one for part in parts for one in part.get("logprobs", [])]:
            whole["logprobs"] = logprobs
        return whole

    def empty(self, reason: str) -> Part:
        """The reply to a request that only loads or unloads the model."""
        return self._part("") | {"done": True, "done_reason": reason}

    @property
    def _text_field(self) -> str:
        return "content" if self._kind == "chat" else "response"

    def _inside(self, part: Part) -> Part:
        """The object that holds the text."""
        said: Part = part["message"] if self._kind == "chat" else part
        return said

    def _parts(self, event: chat_pb2.GenerateEvent) -> Iterator[Part]:
        match event.WhichOneof("event"):
            case "delta":
                yield from self._delta(event.delta)
            case "started":
                self._begin(event.started)
            case "finished":
                yield from self._end(event.finished)

    def _begin(self, started: chat_pb2.Started) -> None:
        self._started = started
        if started.trimmed_tokens and not self._may_truncate:
            raise ContextLengthExceeded(
                ErrorText("input_would_be_cut", n_tokens=started.trimmed_tokens),
                param="truncate",
                suggestions=(ErrorText("shorten_input"), ErrorText("raise_context")),
            )

    def _delta(self, delta: chat_pb2.Delta) -> Iterator[Part]:
        done = self._add_calls(delta)
        if self._conversation is not None:
            self._text.append(delta.text)
        if not (delta.text or delta.reasoning or delta.logprobs or done):
            return
        more: Part = {"thinking": delta.reasoning} if delta.reasoning else {}
        if done:
            more["tool_calls"] = done
        part = self._part(delta.text, **more) | {"done": False}
        if delta.logprobs:
            part["logprobs"] = [_logprob(item) for item in delta.logprobs]
        yield part

    def _add_calls(self, delta: chat_pb2.Delta) -> list[Part]:
        """The calls that are complete because the next one begins."""
        done = []
        for piece in delta.tool_calls:
            if piece.id:
                done += self._last_call()
                self._calls.append(chat_pb2.ToolCall(id=piece.id, name=piece.name))
            self._calls[-1].arguments += piece.arguments
        return done

    def _last_call(self) -> list[Part]:
        if not self._calls:
            return []
        call = self._calls[-1]
        index = len(self._calls) - 1
        function = {"index": index, "name": call.name, "arguments": _object(call.arguments)}
        return [{"id": call.id, "function": function}]

    def _end(self, finished: chat_pb2.Finished) -> Iterator[Part]:
        if calls := self._last_call():
            yield self._part("", tool_calls=calls) | {"done": False}
        reason = END_REASONS.get(finished.choices[0].reason, "stop")
        part = self._part("") | {"done": True, "done_reason": reason}
        if self._conversation is not None:
            answer = ("assistant", "".join(self._text))
            part["context"] = context_of_turns([*self._conversation, answer])
        if self._started.trimmed_tokens:
            part["trimmed"] = True
        yield part | reduced(self._started) | self._metrics(finished)

    def _metrics(self, finished: chat_pb2.Finished) -> Part:
        """Counts, and times in nanoseconds; to load is all that is not computing."""
        total_s, timings = time.perf_counter() - self._began_s, finished.timings
        load_s = max(total_s - timings.prefill_s - timings.decode_s, 0.0)
        return {
            "total_duration": _nanoseconds(total_s),
            "load_duration": _nanoseconds(load_s),
            "prompt_eval_count": finished.usage.prompt_tokens,
            "prompt_eval_duration": _nanoseconds(timings.prefill_s),
            "eval_count": finished.usage.completion_tokens,
            "eval_duration": _nanoseconds(timings.decode_s),
        }

    def _part(self, text: str, **more: Any) -> Part:
        part: Part = {"model": self._name, "created_at": timestamp(time.time())}
        if self._kind == "chat":
            return part | {"message": {"role": "assistant", "content": text} | more}
        return part | {"response": text} | more


def timestamp(seconds: float) -> str:
    """A time since the epoch as Ollama writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _nanoseconds(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def _object(arguments: str) -> Part:
    """The arguments as an object; empty if they are not JSON, because num_predict cut them off."""
    try:
        decoded = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _logprob(item: chat_pb2.TokenLogprob) -> Part:
    return _candidate(item.chosen) | {"top_logprobs": [_candidate(one) for one in item.top]}


def _candidate(candidate: chat_pb2.Candidate) -> Part:
    text, number = token_text(candidate), candidate.logprob
    return {"token": text, "logprob": number, "bytes": list(candidate.text)}
