"""Splits a reply into text and tool calls while it streams in; any chunking gives the same.

A call is announced when it is whole and valid, and not before. From a mark that may begin calls on,
the reply is held until the calls are read or it is sure that there are none: then it is text.
"""

import re

from chat_worker.text.tool_calls.calls import Call, Piece, Text, Tools
from chat_worker.text.tool_calls.marks import (
    BARE,
    BY_OPENER,
    FENCES,
    OPENERS,
    SEPARATORS,
    Marks,
)
from chat_worker.text.tool_calls.parsers.gemma import read_gemma
from chat_worker.text.tool_calls.parsers.json_objects import (
    ARGUMENT_KEYS,
    NAME_KEYS,
    read_json_objects,
)
from chat_worker.text.tool_calls.parsers.named_json import read_named_json
from chat_worker.text.tool_calls.parsers.parser import End, Found, Reader, skip_space
from chat_worker.text.tool_calls.parsers.pythonic import read_pythonic
from chat_worker.text.tool_calls.parsers.tagged_parameters import read_tagged_parameters

READERS: tuple[Reader, ...] = (
    read_json_objects,
    read_named_json,
    read_tagged_parameters,
    read_gemma,
    read_pythonic,
)
_OPENER = re.compile("|".join(map(re.escape, OPENERS)))
_FIRST_OF_OPENER = re.compile("[" + re.escape("".join({opener[0] for opener in OPENERS})) + "]")
# What calls begin with behind a mark, beside a tool's name.
_BEGINNINGS = ("functions.", "function", "call:", "tool_call_id")
# A held reply is read again after it has grown by this share, so that reading costs linear time.
GROWTH = 8
# Within so many characters it is sure whether calls may have begun.
SEEN_CHARS = 1024


class ToolCallFilter:
    """
    Args:
        parallel: False: only the first call counts, and nothing after it.
        forced: a grammar leaves no room for text, so what is no whole call is no text either; it
            ends where a call comes again.
    """

    def __init__(self, tools: Tools, *, parallel: bool = True, forced: bool = False) -> None:
        self._tools = tools
        self._parallel = parallel
        self._forced = forced
        self._out: list[Piece] = []
        # Text that is not decided yet, behind the mark if calls may have begun.
        self._held = ""
        self._marks: Marks | None = None
        self._is_at_start = True
        self._is_between = False
        self._n_read = self._n_seen = 0
        self._is_closed = False
        self._made: set[Call] = set()
        # Functionary writes names bare, on a line of their own.
        self._bare_names = tuple(
            f"{lead}{name}\n{{" for name in tools.schemas for lead in ("", ">>>")
        )
        self._first_words = (*OPENERS, *self._bare_names)
        self.n_calls = 0
        # True when nothing that follows can count.
        self.is_complete = False

    def push(self, text: str) -> list[Piece]:
        self._held += text
        self._advance(is_end=False)
        return self._taken()

    def flush(self) -> list[Piece]:
        """The reply has ended: what was no call after all is text."""
        self._advance(is_end=True)
        return self._taken()

    def _advance(self, *, is_end: bool) -> None:
        """Decide as much as can be decided of what is held."""
        while self._held and not self.is_complete:
            if self._marks is not None:
                goes_on = self._in_calls(self._marks, is_end=is_end)
            elif self._is_at_start:
                goes_on = self._at_start(is_end=is_end)
            elif self._is_between:
                goes_on = self._between(is_end=is_end)
            else:
                goes_on = self._in_text(is_end=is_end)
            if not goes_on:
                return
        if is_end and self._marks is not None and not self.is_complete:
            self._give_up(self._marks)

    # Each returns whether there is something more to decide.

    def _at_start(self, *, is_end: bool) -> bool:
        """White space, a fence, and bare calls."""
        begun = self._held.lstrip()
        fence = next((fence for fence in FENCES if begun.startswith(fence)), "")
        inside = begun[len(fence) :].lstrip()
        undecided = _begins_one_of(begun, FENCES) or _begins_one_of(inside, self._first_words)
        if not is_end and (not inside or undecided):
            return False
        self._is_at_start = False
        is_bare = inside[:1] in ("{", "[") or inside.startswith(self._bare_names)
        if is_bare and not _OPENER.match(inside):
            before = self._held[: len(self._held) - len(inside)]
            self._begin(Marks(before), inside)
        return True

    def _in_text(self, *, is_end: bool) -> bool:
        begun = _OPENER.search(self._held)
        if begun is not None and not is_end and _is_shorter_one(self._held, begun):
            # It may turn out to be a longer mark.
            self._emit_text(self._held[: begun.start()])
            self._held = self._held[begun.start() :]
            return False
        if begun is None:
            n_kept = 0 if is_end else _n_beginning_of_opener(self._held)
            self._emit_text(self._held[: len(self._held) - n_kept])
            self._held = self._held[len(self._held) - n_kept :]
            return False
        self._emit_text(self._held[: begun.start()])
        self._open(begun[0], self._held[begun.end() :])
        return True

    def _between(self, *, is_end: bool) -> bool:
        """Behind a call: the next one, what belongs to none, or text again."""
        at = skip_space(self._held, 0)
        rest = self._held[at:]
        if not rest:
            self._held = ""
            return False
        if not is_end and _begins_one_of(rest, (*SEPARATORS, *OPENERS)):
            return False
        begun = _OPENER.match(rest)
        separator = next((each for each in SEPARATORS if rest.startswith(each)), "")
        if separator and begun is None:
            self._held = rest[len(separator) :]
            return True
        self._is_between = False
        self._held = rest
        if begun is not None:
            self._open(begun[0], rest[begun.end() :])
        elif rest[0] in "{[":
            self._begin(BARE, rest)
        return True

    def _in_calls(self, marks: Marks, *, is_end: bool) -> bool:
        if self._n_seen < SEEN_CHARS and not self._may_be_calls(marks, self._held):
            self._give_up(marks)
            return True
        seen = max(self._n_seen - len(marks.closer), 0)
        self._n_seen = len(self._held)
        if marks.closer and not self._is_closed:
            self._is_closed = marks.closer in self._held[seen:]
        is_due = self._is_closed or not self._parallel
        has_grown = (len(self._held) - self._n_read) * GROWTH >= self._n_read
        if not is_end and not (is_due and has_grown):
            return False
        self._n_read = len(self._held)
        limit = self._held.find(marks.closer) if self._is_closed else None
        found = self._read(End(limit) if is_end else None)
        if found is not None:
            self._take(found)
            return True
        if is_end:
            self._give_up(marks)
        return is_end

    def _read(self, end: End | None) -> Found | None:
        found = (reader(self._held, self._tools, end) for reader in READERS)
        return next((each for each in found if each is not None), None)

    def _take(self, found: Found) -> None:
        for call in found.calls if self._parallel else found.calls[:1]:
            if self._forced and call in self._made:
                # A small model that must call says the same again until its tokens are used up.
                self.is_complete = True
                break
            self._made.add(call)
            self._out.append(call)
            self.n_calls += 1
        self.is_complete = self.is_complete or not self._parallel
        self._held = self._held[found.end :]
        self._marks, self._is_between = None, True

    def _may_be_calls(self, marks: Marks, text: str) -> bool:
        begun = text.lstrip()
        if not begun or marks.is_part:
            return True
        if begun[0] in "{[":
            return _may_be_json_calls(begun, self._tools)
        inner = _OPENER.match(begun)
        if inner is not None:
            # Frames stand around calls, not around each other.
            return BY_OPENER[inner[0]].is_part
        if begun[0] in "<]>" or begun.startswith("```"):
            return True
        word = re.match(r"[\w.:/-]+", begun)
        if word is None:
            return False
        known = any(b.startswith(word[0]) or word[0].startswith(b) for b in _BEGINNINGS)
        return known or self._tools.may_begin_name(word[0])

    def _open(self, opener: str, rest: str) -> None:
        marks = BY_OPENER[opener]
        self._begin(marks, opener + rest if marks.is_part else rest)

    def _begin(self, marks: Marks, held: str) -> None:
        self._marks, self._held = marks, held
        self._n_read = self._n_seen = 0
        self._is_closed = False

    def _give_up(self, marks: Marks) -> None:
        """No call: the mark is text, and behind it another may begin."""
        self._marks = None
        begun = marks.opener
        if marks.is_part:
            self._held = self._held[len(begun) :]
        elif self._held[:1] in ("{", "["):
            begun, self._held = begun + self._held[0], self._held[1:]
        self._emit_text(begun)

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


_FIRST_KEY = re.compile(r"[\[\s]*\{\s*[\"']?(?P<key>[^\"':,{}\[\]]*)(?P<end>[\"':])?")
_CALL_KEYS = frozenset({*NAME_KEYS, *ARGUMENT_KEYS, "id", "type", "tool_call_id"})


def _may_be_json_calls(text: str, tools: Tools) -> bool:
    """Whether a list or object can still be one of calls, told from its first key."""
    if text.lstrip("[ \n\t\r") == "":
        return True
    begun = _FIRST_KEY.match(text)
    if begun is None:
        # A list of calls in Python's notation.
        word = re.match(r"\[\s*([\w.]+)", text)
        return word is not None and tools.may_begin_name(word[1])
    key, ended = begun["key"], begun["end"] is not None
    if not ended:
        return any(known.startswith(key) for known in (*_CALL_KEYS, *tools.schemas))
    return key in _CALL_KEYS or key in tools or not key


def _begins_one_of(text: str, wanted: tuple[str, ...]) -> bool:
    """Whether `text` is the beginning of one of `wanted` and not all of it."""
    return any(len(text) < len(one) and one.startswith(text) for one in wanted)


def _is_shorter_one(text: str, begun: re.Match[str]) -> bool:
    return begun.end() == len(text) and _begins_one_of(begun[0], OPENERS)


def _n_beginning_of_opener(text: str) -> int:
    """Length of the longest end of `text` that begins a mark."""
    longest = len(OPENERS[0]) - 1
    for begun in _FIRST_OF_OPENER.finditer(text, max(len(text) - longest, 0)):
        if any(opener.startswith(text[begun.start() :]) for opener in OPENERS):
            return len(text) - begun.start()
    return 0
