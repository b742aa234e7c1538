"""Splits a streamed reply into text and tool calls; the result does not depend on the chunking.

A call is reported only when it is complete and valid. After a mark that may begin calls, the filter
holds the text back until the calls are parsed, or until it is certain that the text contains none
and can be passed on.
"""

import json
from enum import Enum, auto

from chat_worker.text.tool_calls.beginnings import (
    is_unfinished,
    may_be_calls,
    unfinished_opener_chars,
)
from chat_worker.text.tool_calls.calls import Call, Piece, Text, Tools
from chat_worker.text.tool_calls.marks import (
    BARE,
    BY_OPENER,
    FENCES,
    OPENER,
    OPENERS,
    SEPARATORS,
    Marks,
)
from chat_worker.text.tool_calls.parse import parse_calls
from chat_worker.text.tool_calls.parsers.parser import ParsedCalls, ReplyEnd, skip_space

# Held text is parsed again only after growing by this share, so that parsing takes linear time.
REPARSE_SHARE = 1 / 8
# After so many characters it is certain whether the text can become calls.
DECIDED_CHARS = 1024


class _Stage(Enum):
    START = auto()  # nothing but white space, or a code fence, has arrived
    TEXT = auto()
    CALLS = auto()  # after a mark that may begin calls
    AFTER_CALLS = auto()  # more calls, separators or text may follow


class ToolCallFilter:
    """Finds the calls in one reply.

    Args:
        parallel: if False, only the first call counts, and everything after it is ignored.
        forced: a grammar allows only calls, so text outside of calls is dropped. The reply is
            complete when the model repeats a call.
    """

    def __init__(self, tools: Tools, *, parallel: bool = True, forced: bool = False) -> None:
        self._tools = tools
        self._parallel = parallel
        self._forced = forced
        self._out: list[Piece] = []
        self._stage = _Stage.START
        # The text that is not decided yet; in stage CALLS, it is the text after the mark.
        self._held = ""
        self._marks = BARE
        self._n_parsed = self._n_seen = 0
        self._is_closed = False
        self._made: set[Call] = set()
        # Functionary writes the bare name on a line of its own.
        self._bare_names = tuple(f"{name}\n{{" for name in tools.schemas)
        self._first_words = (*OPENERS, *self._bare_names)
        self.n_calls = 0
        # True when nothing that follows can count.
        self.is_complete = False

    def push(self, text: str) -> list[Piece]:
        """Return the text and the calls that `text` completes."""
        self._held += text
        self._advance(is_end=False)
        return self._taken()

    def flush(self) -> list[Piece]:
        """Return the rest of a reply that has ended; held text that is not a call stays text."""
        self._advance(is_end=True)
        return self._taken()

    def _advance(self, *, is_end: bool) -> None:
        """Decide as much of the held text as possible."""
        steps = {
            _Stage.START: self._at_start,
            _Stage.TEXT: self._in_text,
            _Stage.CALLS: self._in_calls,
            _Stage.AFTER_CALLS: self._after_calls,
        }
        while self._held and not self.is_complete:
            if not steps[self._stage](is_end=is_end):
                return
        if is_end and self._stage is _Stage.CALLS and not self.is_complete:
            self._give_up()

    # Each of these steps returns whether another step may decide more of the held text.

    def _at_start(self, *, is_end: bool) -> bool:
        """Skip white space and a code fence; only here may calls without marks follow."""
        begun = self._held.lstrip()
        fence = next((fence for fence in FENCES if begun.startswith(fence)), "")
        inside = begun[len(fence) :].lstrip()
        undecided = is_unfinished(begun, FENCES) or is_unfinished(inside, self._first_words)
        if not is_end and (not inside or undecided):
            return False
        self._stage = _Stage.TEXT
        is_bare = inside[:1] in ("{", "[") or inside.startswith(self._bare_names)
        if is_bare and not OPENER.match(inside):
            before = self._held[: len(self._held) - len(inside)]
            self._begin(Marks(before), inside)
        return True

    def _in_text(self, *, is_end: bool) -> bool:
        begun = OPENER.search(self._held)
        if begun is None:
            n_held = 0 if is_end else unfinished_opener_chars(self._held)
            self._release_text(len(self._held) - n_held)
            return False
        self._release_text(begun.start())
        if not is_end and is_unfinished(self._held, OPENERS):
            # The text ends with this mark, which may be the beginning of a longer one.
            return False
        self._open(begun[0])
        return True

    def _after_calls(self, *, is_end: bool) -> bool:
        """Skip what separates calls; then another call or text begins."""
        self._held = self._held[skip_space(self._held, 0) :]
        if not self._held:
            return False
        if not is_end and is_unfinished(self._held, (*SEPARATORS, *OPENERS)):
            return False
        begun = OPENER.match(self._held)
        separator = next((each for each in SEPARATORS if self._held.startswith(each)), "")
        if begun is not None:
            self._open(begun[0])
        elif separator:
            self._held = self._held[len(separator) :]
        elif self._held[0] in "{[":
            self._begin(BARE, self._held)
        else:
            self._stage = _Stage.TEXT
        return True

    def _in_calls(self, *, is_end: bool) -> bool:
        is_decided = self._n_seen >= DECIDED_CHARS
        if not is_decided and not may_be_calls(self._marks, self._held, self._tools):
            self._give_up()
            return True
        self._look_for_closer()
        if not is_end and not self._is_due():
            return self._repeats_itself()
        self._n_parsed = len(self._held)
        limit = self._held.find(self._marks.closer) if self._is_closed else None
        parsed = parse_calls(self._held, self._tools, ReplyEnd(limit) if is_end else None)
        if parsed is not None:
            self._take(parsed)
            return True
        if is_end:
            self._give_up()
        return is_end

    def _look_for_closer(self) -> None:
        closer = self._marks.closer
        if closer and not self._is_closed:
            # The closing mark may have arrived in two chunks.
            self._is_closed = closer in self._held[max(self._n_seen - len(closer), 0) :]
        self._n_seen = len(self._held)

    def _is_due(self) -> bool:
        """Return whether parsing the held text now is likely to find complete calls."""
        return (self._is_closed or not self._parallel) and self._has_grown()

    def _has_grown(self) -> bool:
        return len(self._held) - self._n_parsed >= self._n_parsed * REPARSE_SHARE

    def _repeats_itself(self) -> bool:
        """Take the calls of an array that is not closed, if the last one was made before."""
        if not (self._forced and self._held.startswith("[") and self._has_grown()):
            return False
        self._n_parsed = len(self._held)
        closed = self._held[: self._held.rfind("}") + 1] + "]"
        # The parsers forgive what is missing, so they would take a call that is not whole.
        parsed = parse_calls(closed, self._tools, None) if _is_json(closed) else None
        if parsed is None or len({*parsed.calls}) == len(parsed.calls):
            return False
        self._take(parsed)
        return True

    def _take(self, parsed: ParsedCalls) -> None:
        for call in parsed.calls if self._parallel else parsed.calls[:1]:
            if self._forced and call in self._made:
                # A small model that must call repeats itself until its tokens are used up.
                self.is_complete = True
                break
            self._made.add(call)
            self._out.append(call)
            self.n_calls += 1
        self.is_complete = self.is_complete or not self._parallel
        self._held = self._held[parsed.end :]
        self._stage = _Stage.AFTER_CALLS

    def _open(self, opener: str) -> None:
        """Begin calls at `opener`, with which the held text begins."""
        marks = BY_OPENER[opener]
        self._begin(marks, self._held if marks.is_part else self._held[len(opener) :])

    def _begin(self, marks: Marks, held: str) -> None:
        self._stage = _Stage.CALLS
        self._marks, self._held = marks, held
        self._n_parsed = self._n_seen = 0
        self._is_closed = False

    def _give_up(self) -> None:
        """Pass the mark on as text, as it did not begin a call; another mark may follow it."""
        self._stage = _Stage.TEXT
        begun = self._marks.opener
        if self._marks.is_part:
            self._held = self._held[len(begun) :]
        elif self._held[:1] in ("{", "["):
            begun, self._held = begun + self._held[0], self._held[1:]
        self._emit_text(begun)

    def _release_text(self, n_chars: int) -> None:
        """Pass the first `n_chars` of the held text on as text."""
        self._emit_text(self._held[:n_chars])
        self._held = self._held[n_chars:]

    def _emit_text(self, text: str) -> None:
        if not text or self._forced:
            return
        match self._out[-1] if self._out else None:
            case Text(before):
                self._out[-1] = Text(before + text)
            case _:
                self._out.append(Text(text))

    def _taken(self) -> list[Piece]:
        taken, self._out = self._out, []
        return taken


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
