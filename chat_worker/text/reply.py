"""Converts one choice's tokens to what the client receives: text, reasoning and tool calls.

    bytes → characters → thinking or answer → calls or text → text up to a stop string

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
    """The parts that a reply may have besides text.

    Args:
        stops: strings that end the reply.
        schemas: the schemas of the tools' arguments, by name; empty: no calls are looked for.
        forced_calls: the reply consists of calls only, so an incomplete call is not text.
        thinking: the marks of a model that thinks before it answers.
        begins_thinking: the prompt has opened the thinking.
        addressee: words with which the model addresses an answer to the user; not a part of it.
    """

    stops: Sequence[str] = ()
    schemas: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    parallel_calls: bool = True
    forced_calls: bool = False
    thinking: ThinkingMarks | None = None
    begins_thinking: bool = False
    addressee: str = ""


@dataclass
class Part:
    """A part of a reply: thinking, then text, then calls; clients read them in this order."""

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
        # Looks for calls in the thinking, because a model may call without closing it.
        self._thought_calls = _call_filter(reply_format) if self._reasoning is not None else None
        self._stops = StopFilter(reply_format.stops)
        # Empty once it is known whether the answer begins with it; until then it is held back.
        self._addressee = reply_format.addressee
        self._addressed = ""
        self._make_id = make_id or (lambda: f"call_{secrets.token_hex(12)}")
        # Parts that were read but not taken yet.
        self.unsent: list[Part] = []
        self.n_reasoning_tokens = 0
        self._n_calls = 0
        self._thought: list[Call] = []

    @property
    def stop_sequence(self) -> str | None:
        """The stop string that was found; None if there is none."""
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
        """Add text that comes before the first token, such as a repeated prompt."""
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
        """Release the held text: there are no more tokens."""
        text = self._detokenizer.flush()
        if self._reasoning is not None:
            split = self._reasoning.push(text)
            was_never_closed = self._reasoning.is_thinking
            rest = self._reasoning.flush()
            self._think(split.reasoning + rest.reasoning)
            text = split.text + rest.text
            if was_never_closed and self._thought_calls is not None:
                self._take(self._calls_thought())
        self._answer(text, is_end=True)
        if self._calls is not None:
            self._take(self._calls.flush())
        self._emit_text(self._stops.flush())

    def _calls_thought(self) -> list[Piece]:
        assert self._thought_calls is not None, "asked where there are tools"
        return [*self._thought, *(p for p in self._thought_calls.flush() if isinstance(p, Call))]

    def take(self) -> list[Part]:
        taken, self.unsent = self.unsent, []
        return taken

    def _answer(self, text: str, *, is_end: bool = False) -> None:
        if self._addressee:
            text = self._without_addressee(text, is_end=is_end)
        if not text:
            return
        if self._calls is None:
            self._emit_text(self._stops.push(text))
        else:
            self._take(self._calls.push(text))

    def _without_addressee(self, text: str, *, is_end: bool) -> str:
        self._addressed += text
        is_undecided = self._addressee.startswith(self._addressed)
        if is_undecided and self._addressed != self._addressee and not is_end:
            return ""
        addressee, self._addressee = self._addressee, ""
        return self._addressed.removeprefix(addressee)

    def _take(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            match piece:
                case Text(text):
                    self._emit_text(self._stops.push(text))
                case Call(name, arguments):
                    # A stop string cannot extend across a call.
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
    """The schema of a tool's parameters; an object without properties if there are none.

    Raises:
        ValueError: it is not a JSON object, or does not allow objects.
    """
    schema = json.loads(parameters or "{}")
    if not isinstance(schema, dict):
        raise ValueError("not a JSON object")
    kinds = schema.get("type", "object")
    if "object" not in (kinds if isinstance(kinds, list) else [kinds]):
        raise ValueError("arguments are objects")
    return schema


def _call_filter(reply_format: ReplyFormat) -> ToolCallFilter | None:
    """None if no tools are offered."""
    if not reply_format.schemas:
        return None
    return ToolCallFilter(
        Tools(reply_format.schemas),
        parallel=reply_format.parallel_calls,
        forced=reply_format.forced_calls,
    )
