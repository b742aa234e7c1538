"""One choice's tokens as what the client gets: text, reasoning and tool calls.

    bytes → characters → thinking apart from the answer → calls apart from text → up to a stop

Each step is incremental and holds back only what it cannot decide yet.
"""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chat_worker.pipe_messages import CallPiece
from chat_worker.text.detokenize import Detokenizer
from chat_worker.text.reasoning import ReasoningFilter, ThinkingMarks
from chat_worker.text.stops import StopFilter
from chat_worker.text.tool_calls.calls import Call, Piece, Text, Tools
from chat_worker.text.tool_calls.filter import ToolCallFilter


@dataclass(frozen=True)
class ReplyFormat:
    """What a reply may hold beside text.

    Args:
        stops: strings that end it.
        schemas: of the offered tools' arguments, by name; empty: no calls are looked for.
        forced_calls: it is nothing but calls, so that what is cut off is no text.
        thinking: marks of a model that thinks before it answers; `begins_thinking`: the prompt
            opened that.
    """

    stops: Sequence[str] = ()
    schemas: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    parallel_calls: bool = True
    forced_calls: bool = False
    thinking: ThinkingMarks | None = None
    begins_thinking: bool = False


@dataclass
class Part:
    """Some of a reply: thinking, then text, then calls, in which order its reader takes them."""

    text: str = ""
    reasoning: str = ""
    calls: list[CallPiece] = field(default_factory=list)


class Reply:
    def __init__(self, reply_format: ReplyFormat, make_id: Callable[[], str] | None = None) -> None:
        self._detokenizer = Detokenizer()
        self._reasoning = (
            ReasoningFilter(reply_format.thinking, begins_inside=reply_format.begins_thinking)
            if reply_format.thinking is not None
            else None
        )
        self._calls = _call_filter(reply_format)
        # Of the thinking: a model that never closed it may have called all the same.
        self._thought_calls = _call_filter(reply_format) if self._reasoning is not None else None
        self._stops = StopFilter(reply_format.stops)
        self._make_id = make_id or (lambda: f"call_{secrets.token_hex(12)}")
        # What has been read and not been taken yet.
        self.unsent: list[Part] = []
        self.n_reasoning_tokens = 0
        self._n_calls = 0
        self._thought: list[Call] = []

    @property
    def stop_sequence(self) -> str | None:
        """The stop string that was found."""
        return self._stops.found

    @property
    def has_calls(self) -> bool:
        return self._n_calls > 0

    @property
    def is_complete(self) -> bool:
        """True when nothing that follows can count."""
        return self._stops.found is not None or (
            self._calls is not None and self._calls.is_complete
        )

    def prepend(self, text: str) -> None:
        """Text that comes before the first token, such as a prompt that is repeated."""
        self._emit_text(text)

    def push(self, piece: bytes) -> None:
        """Read one token."""
        text = self._detokenizer.push(piece)
        if self._reasoning is None:
            self._answer(text)
            return
        was_thinking = self._reasoning.is_thinking
        split = self._reasoning.push(text)
        self.n_reasoning_tokens += was_thinking or self._reasoning.is_thinking
        self._think(split.reasoning)
        self._answer(split.text)

    def flush(self) -> None:
        """There are no more tokens."""
        text = self._detokenizer.flush()
        if self._reasoning is not None:
            split = self._reasoning.push(text)
            was_never_closed = self._reasoning.is_thinking
            rest = self._reasoning.flush()
            self._think(split.reasoning + rest.reasoning)
            text = split.text + rest.text
            if was_never_closed and self._thought_calls is not None:
                self._take(self._calls_thought())
        self._answer(text)
        if self._calls is not None:
            self._take(self._calls.flush())
        self._emit_text(self._stops.flush())

    def _calls_thought(self) -> list[Piece]:
        assert self._thought_calls is not None, "asked where there are tools"
        return [*self._thought, *(p for p in self._thought_calls.flush() if isinstance(p, Call))]

    def take(self) -> list[Part]:
        taken, self.unsent = self.unsent, []
        return taken

    def _answer(self, text: str) -> None:
        if not text:
            return
        if self._calls is None:
            self._emit_text(self._stops.push(text))
        else:
            self._take(self._calls.push(text))

    def _take(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            match piece:
                case Text(text):
                    self._emit_text(self._stops.push(text))
                case Call(name, arguments):
                    # A stop string is not looked for across a call.
                    self._emit_text(self._stops.flush())
                    made = CallPiece(self._n_calls, self._make_id(), name, arguments)
                    self._n_calls += 1
                    self._last().calls.append(made)

    def _think(self, text: str) -> None:
        if text:
            if self._thought_calls is not None:
                pieces = self._thought_calls.push(text)
                self._thought += [piece for piece in pieces if isinstance(piece, Call)]
            last = self._last()
            if last.text or last.calls:
                self.unsent.append(last := Part())
            last.reasoning += text

    def _emit_text(self, text: str) -> None:
        if text:
            last = self._last()
            if last.calls:
                self.unsent.append(last := Part())
            last.text += text

    def _last(self) -> Part:
        if not self.unsent:
            self.unsent.append(Part())
        return self.unsent[-1]


def schema_of(parameters: str) -> dict[str, Any]:
    """A tool's parameters as a schema; of an object without properties if there are none.

    Raises:
        ValueError: it is not a JSON object, or arguments that follow it are none.
    """
    schema = json.loads(parameters or "{}")
    if not isinstance(schema, dict):
        raise ValueError("not a JSON object")
    kinds = schema.get("type", "object")
    if "object" not in (kinds if isinstance(kinds, list) else [kinds]):
        raise ValueError("arguments are objects")
    return schema


def _call_filter(reply_format: ReplyFormat) -> ToolCallFilter | None:
    """None: no tools are offered."""
    if not reply_format.schemas:
        return None
    return ToolCallFilter(
        Tools(reply_format.schemas),
        parallel=reply_format.parallel_calls,
        forced=reply_format.forced_calls,
    )
