"""How one model writes tool calls, derived from what its chat template renders.

`template_traits` lets the template render calls whose names and arguments are known. The text
between these known parts is the notation. A grammar can therefore hold a model to its own notation
although nobody has described it.
"""

import itertools
import json
import re
from dataclasses import dataclass

from chat_worker.text import template_traits as probe
from chat_worker.text.tool_calls.calls import Tools
from chat_worker.text.tool_calls.marks import BARE, BY_OPENER, CLOSERS, OPENERS, Marks
from chat_worker.text.tool_calls.parse import parse_calls
from chat_worker.text.tool_calls.parsers.parser import ReplyEnd, skip_space

# Stands for the name of an argument where the notation repeats it, as in a closing tag.
KEY = "\0"
IDS = tuple(id_ for pair in probe.IDS.values() for id_ in pair)
# Marks around a single call, which may end within the marks around all calls.
INNER_CLOSERS = ("</tool_call>", "</seed:tool_call>")
_SCHEMA = {"type": "object", "properties": {}}
_TOOLS = Tools({name: _SCHEMA for name, _, _ in (probe.FIRST, probe.SECOND)})
_NUMBER = str(probe.NUMBER)
# A call with three arguments, none of them in JSON: two texts, then a number.
_SEPARATE_ARGUMENTS = re.compile(
    rf"(?P<before_first_key>.*?){probe.TEXT_KEY}(?P<key_to_text>.*?){probe.FIRST[1]}"
    rf"(?P<text_to_text_key>.*?){probe.MORE_KEY}(?P<key_to_more>.*?){probe.MORE}"
    rf"(?P<text_to_number_key>.*?){probe.NUMBER_KEY}(?P<key_to_number>.*?){_NUMBER}"
    rf"(?P<after_number>.*)",
    re.S,
)
_decoder = json.JSONDecoder()


@dataclass(frozen=True)
class JsonArguments:
    """The arguments are one JSON object.

    Args:
        after_name: the text between the tool's name and the object.
    """

    after_name: str
    key_separator: str = ": "
    item_separator: str = ", "


@dataclass(frozen=True)
class SeparateArguments:
    """The arguments follow each other, without a JSON object around them.

    Args:
        empty: follows the tool's name if the call has no arguments.
        first, later: come before the key of the first argument, and of each later one.
        before_text, after_text: come before and after the value of an argument that is a text.
        before_value, after_value: come before and after any other value.
    """

    empty: str
    first: str
    later: str
    before_text: str
    after_text: str
    before_value: str
    after_value: str


@dataclass(frozen=True)
class Notation:
    """How calls are written, from the opening mark on.

    Args:
        opener: the mark that begins calls; empty if calls are a reply's first text, without a mark.
        head: the text between that mark and the name of the first tool.
        between: the text between the arguments of a call and the name of the next tool; empty if
            a reply has one call only.
        tail: the text after the last call's arguments, up to where free text may follow.
    """

    opener: str
    head: str
    arguments: JsonArguments | SeparateArguments
    between: str
    tail: str


# The notation that `history.tools_as_text` asks for.
PLAIN = Notation("", '[{"name": "', JsonArguments('", "arguments": '), '}, {"name": "', "}]")


def notation_of(one: str, two: str) -> Notation:
    """Return the notation of the replies `one` and `two`; `PLAIN` if it cannot be derived.

    Args:
        one, two: replies with one call and with two calls, see `template_traits.Traits.written`.
    """
    name = one.find(probe.FIRST[0])
    if name < 0:
        return PLAIN
    marks, begin = _opening(one, name)
    end = _end_of_calls(one, begin, marks)
    if end is None:
        return PLAIN
    rest = one[name + len(probe.FIRST[0]) : end]
    derived = _json_arguments(rest) or _separate_arguments(rest)
    if derived is None:
        return PLAIN
    arguments, tail = derived
    head = one[begin:name].removeprefix(marks.opener if marks.is_part else "")
    return Notation(marks.opener, head, arguments, _between(two, arguments), tail)


def _opening(text: str, name: int) -> tuple[Marks, int]:
    """Return the first mark before the tool's name at `name`, and where parsing begins."""
    found = [(text.find(opener, 0, name), -len(opener), opener) for opener in OPENERS]
    found = [each for each in found if each[0] >= 0]
    if not found:
        return BARE, skip_space(text, 0)
    at, _, opener = min(found)
    marks = BY_OPENER[opener]
    return marks, at if marks.is_part else at + len(opener)


def _end_of_calls(text: str, begin: int, marks: Marks) -> int | None:
    """Return the position after the calls that begin at `begin` and the mark that closes them.

    Returns:
        None if no parser understands the calls.
    """
    calls = text[begin:]
    closer = calls.find(marks.closer) if marks.closer else -1
    parsed = parse_calls(calls, _TOOLS, ReplyEnd(closer if closer >= 0 else None))
    if parsed is None:
        return None
    end = begin + parsed.end
    closing = skip_space(text, end)
    for mark in CLOSERS:
        if mark in (marks.closer, *INNER_CLOSERS) and text.startswith(mark, closing):
            return closing + len(mark)
    return end


def _json_arguments(rest: str) -> tuple[JsonArguments, str] | None:
    """Return the notation of arguments in one JSON object, and the text after them.

    Args:
        rest: what follows the tool's name.
    """
    expected = probe.arguments_of_probe(probe.FIRST[1])
    for brace in re.finditer(r"\{", rest):
        try:
            value, end = _decoder.raw_decode(rest, brace.start())
        except ValueError:
            continue
        if value == expected:
            written = rest[brace.start() : end]
            key_separator = ": " if '": ' in written else ":"
            item_separator = ", " if '", "' in written else ","
            arguments = JsonArguments(rest[: brace.start()], key_separator, item_separator)
            return arguments, rest[end:]
    return None


def _separate_arguments(rest: str) -> tuple[SeparateArguments, str] | None:
    """Return the notation of arguments that follow each other, and the text after them.

    Args:
        rest: what follows the tool's name.
    """
    parts = _SEPARATE_ARGUMENTS.fullmatch(rest)
    if parts is None or parts["key_to_text"] != parts["key_to_more"]:
        return None
    before_text, before_value = parts["key_to_text"], parts["key_to_number"]
    # A closing tag may repeat the argument's name.
    after_more = parts["text_to_number_key"].replace(probe.MORE_KEY, KEY)
    after_number = parts["after_number"].replace(probe.NUMBER_KEY, KEY)
    # The text that follows both a text and a number ends an argument.
    after_text = after_value = _common_beginning(after_more, after_number)
    if not after_text and after_more[:1] in ("'", '"', "<"):
        # Texts are in quotes and numbers are not; the quote before a text also ends it.
        after_text = before_text.removeprefix(before_value)
    later = after_more.removeprefix(after_text)
    arguments = SeparateArguments(
        empty=parts["before_first_key"].removesuffix(later),
        first=parts["before_first_key"],
        later=later,
        before_text=before_text,
        after_text=after_text,
        before_value=before_value,
        after_value=after_value,
    )
    return arguments, after_number.removeprefix(after_value)


def _between(two: str, arguments: JsonArguments | SeparateArguments) -> str:
    """Return the text between the arguments of a call and the name of the next tool.

    Args:
        two: a reply with two calls, each of which ends with a number.
    Returns:
        Empty if the reply has no second call.
    """
    second = two.find(probe.SECOND[0])
    number = two.find(_NUMBER, two.find(probe.FIRST[0]))
    if second < 0 or not 0 <= number < second:
        return ""
    found = two[number + len(_NUMBER) : second].replace(probe.NUMBER_KEY, KEY)
    if isinstance(arguments, SeparateArguments):
        return found.removeprefix(arguments.after_value)
    return found[found.index("}") + 1 :]


def _common_beginning(one: str, other: str) -> str:
    """Return the text that both begin with, without an unfinished tag at its end."""
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    found = "".join(character for character, _ in pairs)
    return found[: found.rindex("<")] if found.rfind("<") > found.rfind(">") else found
