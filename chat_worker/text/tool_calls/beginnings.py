"""Decides whether text whose end has not arrived yet may still become a tool call."""

import re

from chat_worker.text.tool_calls.calls import Tools
from chat_worker.text.tool_calls.marks import BY_OPENER, OPENER, OPENERS, Marks
from chat_worker.text.tool_calls.parsers.json_objects import ARGUMENT_KEYS, NAME_KEYS

_FIRST_OF_OPENER = re.compile("[" + re.escape("".join({opener[0] for opener in OPENERS})) + "]")
# What a call after an opening mark may begin with, besides the name of a tool.
_FIRST_WORDS = ("functions.", "function", "call:", "tool_call_id")
_FIRST_KEY = re.compile(r"[\[\s]*\{\s*[\"']?(?P<key>[^\"':,{}\[\]]*)(?P<end>[\"':])?")
_CALL_KEYS = frozenset({*NAME_KEYS, *ARGUMENT_KEYS, "id", "type", "tool_call_id"})


def is_unfinished(text: str, words: tuple[str, ...]) -> bool:
    """Return whether `text` is the beginning of one of `words`, but not yet all of it."""
    return any(len(text) < len(word) and word.startswith(text) for word in words)


def unfinished_opener_chars(text: str) -> int:
    """Return the length of the longest end of `text` that may begin an opening mark."""
    longest = len(OPENERS[0]) - 1
    for begin in _FIRST_OF_OPENER.finditer(text, max(len(text) - longest, 0)):
        if any(opener.startswith(text[begin.start() :]) for opener in OPENERS):
            return len(text) - begin.start()
    return 0


def may_be_calls(marks: Marks, text: str, tools: Tools) -> bool:
    """Return whether `text`, which follows the opening mark, may still become calls."""
    begun = text.lstrip()
    if not begun or marks.is_part:
        return True
    if begun[0] in "{[":
        return _may_be_json_calls(begun, tools)
    inner = OPENER.match(begun)
    if inner is not None:
        # A second mark may follow only if it is a part of a call.
        return BY_OPENER[inner[0]].is_part
    if begun[0] in "<]>" or begun.startswith("```"):
        return True
    word = re.match(r"[\w.:/-]+", begun)
    if word is None:
        return False
    is_known = any(known.startswith(word[0]) or word[0].startswith(known) for known in _FIRST_WORDS)
    return is_known or tools.may_begin_name(word[0])


def _may_be_json_calls(text: str, tools: Tools) -> bool:
    """Return whether a JSON list or object may still become calls, judged by its first key."""
    if text.lstrip("[ \n\t\r") == "":
        return True
    begun = _FIRST_KEY.match(text)
    if begun is None:
        # It may be a list of calls in Python's notation.
        word = re.match(r"\[\s*([\w.]+)", text)
        return word is not None and tools.may_begin_name(word[1])
    key, is_whole = begun["key"], begun["end"] is not None
    if not is_whole:
        return any(known.startswith(key) for known in (*_CALL_KEYS, *tools.schemas))
    return key in _CALL_KEYS or key in tools or not key
