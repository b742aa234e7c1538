"""How one model writes calls, learnt from what its template writes.

A template shows a call of known tools with known arguments; what stands between these is the
notation. So a grammar can hold a model to its own form without anybody having described it.
"""

import json
import re
from dataclasses import dataclass

from chat_worker.text import template_traits as probe
from chat_worker.text.tool_calls.calls import Tools
from chat_worker.text.tool_calls.filter import READERS
from chat_worker.text.tool_calls.marks import BARE, BY_OPENER, CLOSERS, OPENERS, Marks
from chat_worker.text.tool_calls.parsers.parser import End, Found, skip_space

# Stands for the name of an argument where the text around it repeats it.
KEY = "\0"
IDS = tuple(id_ for pair in probe.IDS.values() for id_ in pair)
_SCHEMA = {"type": "object", "properties": {}}
_TOOLS = Tools({name: _SCHEMA for name, _, _ in (probe.FIRST, probe.SECOND)})
_decoder = json.JSONDecoder()


@dataclass(frozen=True)
class JsonArguments:
    """Arguments as one JSON object, behind `after_name`."""

    after_name: str
    key_separator: str = ": "
    item_separator: str = ", "


@dataclass(frozen=True)
class SeparateArguments:
    """Arguments one by one, without JSON around them.

    Args:
        empty: behind the name of a call without arguments.
        first, later: before an argument's key.
        before_text, after_text: around a text; `before_value`, `after_value`: around others.
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
    """
    Args:
        opener: the mark that begins calls; empty: they stand bare at a reply's beginning.
        head: from there to the first tool's name.
        between: from the end of a call's arguments to the next name; empty: there is one only.
        tail: from the end of the last call's arguments to where text may follow.
    """

    opener: str
    head: str
    arguments: JsonArguments | SeparateArguments
    between: str
    tail: str


# As `history.told` asks for calls.
PLAIN = Notation("", '[{"name": "', JsonArguments('", "arguments": '), '}, {"name": "', "}]")


def notation_of(one: str, two: str) -> Notation:
    """The notation in which the replies `one` and `two` call; the plain one if it is not clear.

    Args:
        one, two: see `template_traits.Traits.written`.
    """
    name = one.find(probe.FIRST[0])
    begun = _opening(one, name) if name >= 0 else None
    if begun is None:
        return PLAIN
    marks, at = begun
    end = _end(one, at, marks)
    if end is None:
        return PLAIN
    head, rest = one[at:name], one[name + len(probe.FIRST[0]) : end]
    learnt = _json(rest) or _separate(rest)
    if learnt is None:
        return PLAIN
    arguments, tail = learnt
    between = _between(two, arguments)
    if marks.is_part:
        head = head.removeprefix(marks.opener)
    return Notation(marks.opener, head, arguments, between, tail)


def _opening(text: str, name: int) -> tuple[Marks, int]:
    """The mark that begins calls, and where what is read begins."""
    found = [(text.find(opener, 0, name), -len(opener), opener) for opener in OPENERS]
    found = [each for each in found if each[0] >= 0]
    if found:
        at, _, opener = min(found)
        marks = BY_OPENER[opener]
        return marks, at if marks.is_part else at + len(opener)
    return BARE, skip_space(text, 0)


def _end(text: str, at: int, marks: Marks) -> int | None:
    """Behind the calls that begin at `at`, and the mark that ends them."""
    limit = text.find(marks.closer, at) - at if marks.closer and marks.closer in text[at:] else None
    found: Found | None = None
    for reader in READERS:
        found = found or reader(text[at:], _TOOLS, End(limit))
    if found is None:
        return None
    end = at + found.end
    closing = skip_space(text, end)
    for closer in CLOSERS:
        if closer in (marks.closer, _outer(closer)) and text.startswith(closer, closing):
            return closing + len(closer)
    return end


def _outer(closer: str) -> str:
    return closer if closer in ("</tool_call>", "</seed:tool_call>") else ""


def _json(rest: str) -> tuple[JsonArguments, str] | None:
    """Arguments that stand as one object in `rest`, which begins behind the name."""
    wanted = probe.arguments_of_probe(probe.FIRST[1])
    for begun in re.finditer(r"\{", rest):
        try:
            value, end = _decoder.raw_decode(rest, begun.start())
        except ValueError:
            continue
        if value == wanted:
            keys = rest[begun.start() : end]
            key_separator = ": " if '": ' in keys else ":"
            item_separator = ", " if '", "' in keys else ","
            after_name = rest[: begun.start()]
            return JsonArguments(after_name, key_separator, item_separator), rest[end:]
    return None


def _separate(rest: str) -> tuple[SeparateArguments, str] | None:
    """Arguments that stand by themselves."""
    number = str(probe.NUMBER)
    parts = re.fullmatch(
        rf"(?P<a>.*?){probe.TEXT_KEY}(?P<b>.*?){probe.FIRST[1]}(?P<c>.*?){probe.MORE_KEY}(?P<d>.*?)"
        rf"{probe.MORE}(?P<e>.*?){probe.NUMBER_KEY}(?P<f>.*?){number}(?P<g>.*)",
        rest,
        re.S,
    )
    if parts is None or parts["b"] != parts["d"]:
        return None
    # The end of an argument may name it again.
    behind_text = parts["e"].replace(probe.MORE_KEY, KEY)
    behind_number = parts["g"].replace(probe.NUMBER_KEY, KEY)
    after_text = _common_beginning(behind_text, behind_number)
    is_quoted = not after_text
    later = behind_text[len(after_text) :]
    if is_quoted and later[:1] in ("'", '"', "<"):
        # Texts have quotes and numbers have not: what closes the quotes also opens them.
        quote = parts["b"].removeprefix(parts["f"])
        after_text = quote
        later = behind_text.removeprefix(quote)
    after_value = after_text if behind_number.startswith(after_text) and not is_quoted else ""
    learnt = SeparateArguments(
        empty=parts["a"].removesuffix(later),
        first=parts["a"],
        later=later,
        before_text=parts["b"],
        after_text=after_text,
        before_value=parts["f"],
        after_value=after_value,
    )
    return learnt, behind_number.removeprefix(after_value)


def _between(two: str, arguments: JsonArguments | SeparateArguments) -> str:
    """From the end of one call's arguments to the next name; empty if there is no next one."""
    second = two.find(probe.SECOND[0])
    number = two.find(str(probe.NUMBER), two.find(probe.FIRST[0]))
    if second < 0 or not 0 <= number < second:
        return ""
    found = two[number + len(str(probe.NUMBER)) : second].replace(probe.NUMBER_KEY, KEY)
    if isinstance(arguments, SeparateArguments):
        return found.removeprefix(arguments.after_value)
    return found[found.index("}") + 1 :]


def _common_beginning(one: str, other: str) -> str:
    """Of both, without the beginning of a tag that goes on differently."""
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    found = one[:length]
    return found[: found.rindex("<")] if found.rfind("<") > found.rfind(">") else found
