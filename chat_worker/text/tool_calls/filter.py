"""Splits a reply into text and tool calls while it streams in; any chunking gives the same."""

import re
from collections.abc import Mapping
from typing import Any

from chat_worker.text.tool_calls.events import CallArguments, CallStarted, ReplyEvent, TextPiece
from chat_worker.text.tool_calls.parsers import (
    CallParser,
    JsonCallParser,
    NamedCallParser,
    Outcome,
    XmlCallParser,
)

OPENERS = ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<function=")
# At the very beginning of a reply calls may also stand bare, or fenced.
FENCES = ("```json", "```")
# What may stand between and after calls.
SEPARATORS = frozenset(",;")
CLOSERS = ("</tool_call>", "```", "]")
MARKERS = ("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>")
BARE = frozenset("{[")
FIRST_OF_OPENER = re.compile(r"[<\[]")


class ToolCallFilter:
    """
    Args:
        schemas: JSON schemas of the offered tools' arguments, by name.
        parallel: False: only the first call counts, and nothing after it.
        forced: a grammar leaves no room for text, so the beginning of a call is never any.
    """

    def __init__(
        self,
        schemas: Mapping[str, dict[str, Any]],
        *,
        parallel: bool = True,
        forced: bool = False,
    ) -> None:
        self._schemas = schemas
        self._parallel = parallel
        self._forced = forced
        self._out: list[ReplyEvent] = []
        self._state = self._at_start
        # Text that may be the beginning of something.
        self._held = ""
        # What the call in progress is written as, should it turn out to be none.
        self._raw: list[str] = []
        self._reader: CallParser | None = None
        self.n_calls = 0

    @property
    def is_complete(self) -> bool:
        """True when nothing that follows can count."""
        return not self._parallel and self.n_calls > 0 and self._reader is None

    def push(self, text: str) -> list[ReplyEvent]:
        at = 0
        while at < len(text) and not self.is_complete:
            if self._state == self._in_text and not self._held:
                # Most of most replies is plain: it is passed on in one piece.
                mark = FIRST_OF_OPENER.search(text, at)
                end = mark.start() if mark else len(text)
                self._emit_text(text[at:end])
                at = end
            if at < len(text):
                self._state(text[at])
                at += 1
        return self._drain()

    def flush(self) -> list[ReplyEvent]:
        """The reply has ended: what was no call after all is text."""
        if not self._forced and (self._reader is None or not self._reader.name):
            self._emit_text("".join(self._raw))
            if self._state is not self._between:
                self._emit_text(self._held)
        self._raw, self._held, self._reader = [], "", None
        self._state = self._in_text
        return self._drain()

    def _at_start(self, character: str) -> None:
        self._held += character
        begun = self._held.lstrip()
        if not begun or any(fence.startswith(begun) for fence in FENCES):
            return
        fence = next((fence for fence in FENCES if begun.startswith(fence)), "")
        rest = begun[len(fence) :].lstrip()
        if not rest or (rest not in OPENERS and _n_beginning(rest, OPENERS) == len(rest)):
            return
        held, self._held = self._held, ""
        if rest[0] in BARE and rest not in OPENERS:
            self._raw = list(held[: len(held) - len(rest)])
            self._state = self._in_call
            for each in rest:
                self._state(each)
            return
        self._state = self._in_text
        for each in held:
            self._state(each)

    def _in_text(self, character: str) -> None:
        self._held += character
        if self._held in OPENERS:
            self._open(self._held)
            return
        n_kept = _n_beginning(self._held, OPENERS)
        self._emit_text(self._held[: len(self._held) - n_kept])
        self._held = self._held[len(self._held) - n_kept :]

    def _open(self, opener: str) -> None:
        self._raw, self._held = list(opener), ""
        self._state = self._in_call
        if opener == XmlCallParser.HEAD:
            self._reader = XmlCallParser(self._schemas)
            for each in opener:
                self._reader.feed(each)

    def _in_call(self, character: str) -> None:
        """Behind an opener: before a call, or in one."""
        self._raw.append(character)
        if self._reader is not None:
            self._advance(self._reader, character)
        elif character == "{":
            self._reader = JsonCallParser(self._schemas)
        elif character == "<":
            self._reader = XmlCallParser(self._schemas)
            self._reader.feed(character)
        elif character.isalpha() or character == "_":
            self._reader = NamedCallParser(self._schemas)
            self._reader.feed(character)
        elif not (character.isspace() or character == "["):
            self._give_up()

    def _advance(self, reader: CallParser, character: str) -> None:
        had_name = bool(reader.name)
        outcome = reader.feed(character)
        if outcome is Outcome.BAD and not reader.name:
            self._give_up()
            return
        if reader.name:
            if not had_name:
                self._out.append(CallStarted(self.n_calls, reader.name))
                self._raw = []
            if arguments := reader.take():
                self._out.append(CallArguments(self.n_calls, arguments))
        if outcome is not Outcome.MORE:
            self._reader = None
            self._raw = []
            self.n_calls += 1
            self._state = self._between

    def _between(self, character: str) -> None:
        """Behind a call: the next one, what belongs to none, or text again."""
        self._held += character
        if self._held in CLOSERS or self._held.isspace() or self._held in SEPARATORS:
            self._held = ""
        elif self._held in OPENERS:
            self._open(self._held)
        elif self._held == "{":
            self._held = ""
            self._state = self._in_call
            self._in_call(character)
        elif _n_beginning(self._held, OPENERS + CLOSERS) < len(self._held):
            held, self._held = self._held, ""
            self._state = self._in_text
            for each in held:
                self._state(each)

    def _give_up(self) -> None:
        """No call: what was read is text, at whose end another may begin."""
        raw = "".join(self._raw)
        self._raw, self._reader = [], None
        self._state = self._in_text
        n_kept = _n_beginning(raw, OPENERS)
        self._emit_text(raw[: len(raw) - n_kept])
        self._held = raw[len(raw) - n_kept :]

    def _emit_text(self, text: str) -> None:
        if text:
            self._out.append(TextPiece(text))

    def _drain(self) -> list[ReplyEvent]:
        """What was found, neighbours of a kind joined."""
        found, self._out = self._out, []
        joined: list[ReplyEvent] = []
        for piece in found:
            last = joined[-1] if joined else None
            match last, piece:
                case TextPiece(before), TextPiece(text):
                    joined[-1] = TextPiece(before + text)
                case CallArguments(index, before), CallArguments(also, text) if index == also:
                    joined[-1] = CallArguments(index, before + text)
                case _:
                    joined.append(piece)
        return joined


def _n_beginning(text: str, wanted: tuple[str, ...]) -> int:
    """Length of the longest end of `text` that begins one of `wanted`."""
    longest = max(map(len, wanted)) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(one.startswith(text[-length:]) for one in wanted):
            return length
    return 0
