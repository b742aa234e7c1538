"""Calls in tags; each argument is between tags of its own, without quotes.

Used by Qwen3-Coder, Seed-OSS, Nemotron 3, StepFun (`<function=…><parameter=…>`), MiniMax M2 and M3,
DeepSeek V3.2 (`<invoke name=…>`), MiniCPM 5 (`<function name=…><param name=…>`), GLM 4.5 to 4.7 and
related models (`name<arg_key>…`), and Kimi K3.
"""

import re
from dataclasses import dataclass
from typing import Any

from chat_worker.text.tool_calls.calls import Call, Tools
from chat_worker.text.tool_calls.parsers.parser import ParsedCalls, ReplyEnd


@dataclass(frozen=True)
class Tags:
    """The tags of one notation.

    Args:
        call: begins a call; its group `name` is the tool's name.
        key: begins an argument; its group `key` is the argument's name.
        value_end: ends an argument, unless the model forgets it.
        call_end: ends a call, unless the model forgets it.
    """

    call: re.Pattern[str]
    key: re.Pattern[str]
    value_end: re.Pattern[str]
    call_end: re.Pattern[str]


def _tags(call: str, key: str, value_end: str, call_end: str) -> Tags:
    return Tags(*(re.compile(pattern) for pattern in (call, key, value_end, call_end)))


# Prefixes and suffixes that some families of models add to the names of tags.
_PREFIX = r"(?:｜DSML｜|atem:|minimax:|ns:)?"
_SUFFIX = r"(?::\w+)?"
# MiniMax M3 and Kimi K3 write this before each tag.
_MM = r"(?:\]<\]minimax\[>\[)?"
KINDS = (
    _tags(
        r"\s*<function=(?P<name>[^>\n]{1,256})>",
        r"\s*<parameter=(?P<key>[^>\n]{1,256})>",
        r"</parameter>\s*$",
        r"</function>",
    ),
    _tags(
        rf'\s*{_MM}<{_PREFIX}invoke name="(?P<name>[^"\n]{{1,256}})">',
        rf'\s*{_MM}<{_PREFIX}parameter name="(?P<key>[^"\n]{{1,256}})"[^>\n]*>',
        rf"</{_PREFIX}parameter>\s*$",
        rf"{_MM}</{_PREFIX}invoke>",
    ),
    _tags(
        r'\s*<function name="(?P<name>[^"\n]{1,256})">',
        r'\s*<param(?:eter)? name="(?P<key>[^"\n]{1,256})">',
        r"</param(?:eter)?>\s*$",
        r"</function>",
    ),
    _tags(
        rf"\s*(?:<tool_call{_SUFFIX}>\s*)?(?P<name>[\w.:-]{{1,256}}?)\s*(?:<tool_sep{_SUFFIX}>\s*)?"
        rf"(?=<arg_key{_SUFFIX}>|</tool_call{_SUFFIX}>)",
        rf"\s*<arg_key{_SUFFIX}>(?P<key>[^<\n]{{1,256}})</arg_key{_SUFFIX}>"
        rf"\s*<arg_value{_SUFFIX}>",
        rf"</arg_value{_SUFFIX}>\s*$",
        rf"</tool_call{_SUFFIX}>",
    ),
    _tags(
        r'\s*<\|open\|>call tool="(?P<name>[^"\n]{1,256})"[^<\n]*<\|sep\|>',
        r'\s*<\|open\|>argument key="(?P<key>[^"\n]{1,256})"[^<\n]*<\|sep\|>',
        r"<\|close\|>argument<\|sep\|>\s*$",
        r"<\|close\|>call<\|sep\|>",
    ),
    # MiniMax M3 names the tag after the argument.
    _tags(
        rf'\s*{_MM}<invoke name="(?P<name>[^"\n]{{1,256}})">',
        rf"\s*{_MM}<(?P<key>[\w.-]{{1,256}})>",
        rf"{_MM}</[\w.-]{{1,256}}>\s*$",
        rf"{_MM}</invoke>",
    ),
)
# MiniMax M3 writes lists with item tags, and MiniCPM 5 writes texts as CDATA.
ITEM = re.compile(rf"{_MM}<item>(.*?){_MM}</item>", re.S)
ITEMS = re.compile(rf"\s*(?:{_MM}<item>.*?{_MM}</item>\s*)+", re.S)
CDATA = re.compile(r"\s*<!\[CDATA\[(.*)\]\]>\s*", re.S)


def parse_tagged_parameters(text: str, tools: Tools, end: ReplyEnd | None) -> ParsedCalls | None:
    return next((found for tags in KINDS if (found := _read(text, tools, end, tags))), None)


def _read(text: str, tools: Tools, end: ReplyEnd | None, tags: Tags) -> ParsedCalls | None:
    calls: list[Call] = []
    at = 0
    while begun := tags.call.match(text, at):
        name = begun["name"].strip()
        if name not in tools:
            break
        span = _span(text, begun.end(), end, tags)
        if span is None:
            break
        inner_end, behind = span
        inside = text[begun.end() : inner_end]
        arguments = _arguments(inside, tools.properties(name), tags)
        if not arguments and inside.strip():
            # The text holds other tags, or none.
            return None
        call = tools.call(name, arguments)
        if call is None:
            return None
        calls.append(call)
        at = behind
    return ParsedCalls(calls, at) if calls else None


def _span(text: str, at: int, end: ReplyEnd | None, tags: Tags) -> tuple[int, int] | None:
    """The positions at which the arguments end and at which the call ends."""
    for mark in tags.call_end.finditer(text, at):
        inside = text[at : mark.start()]
        # A value may contain this tag; then no tag that ends a value precedes it.
        if not inside.strip() or tags.value_end.search(inside):
            return mark.start(), mark.end()
    if end is None:
        return None
    # The model forgot the end of the call: it ends where the next call begins, or where all calls
    # end.
    limit = len(text) if end.limit is None else end.limit
    following = next((m.start() for m in tags.call.finditer(text, at, limit)), limit)
    last = next((m for m in tags.call_end.finditer(text, at, following)), None)
    if last is not None:
        return last.start(), last.end()
    return (following, following) if following < len(text) else None


def _arguments(text: str, known: list[str], tags: Tags) -> dict[str, Any]:
    """The values by their keys; a value ends where the next known key begins."""
    keys = [m for m in tags.key.finditer(text) if not known or m["key"].strip() in known]
    found = {}
    ends = [following.start() for following in keys[1:]] + [len(text)]
    for begun, end in zip(keys, ends, strict=False):
        found[begun["key"].strip()] = _unframed(tags.value_end.sub("", text[begun.end() : end]))
    return found


def _unframed(value: str) -> str | list[str]:
    """The value without the item tags, CDATA or line breaks that some models add."""
    if items := ITEMS.fullmatch(value):
        return ITEM.findall(items[0])
    if cdata := CDATA.fullmatch(value):
        return cdata[1]
    return value[1:].removesuffix("\n") if value.startswith("\n") else value
