"""Calls in tags, each argument between tags of its own, without quotes.

Qwen3-Coder, Seed-OSS, Nemotron 3, StepFun (`<function=…><parameter=…>`), MiniMax M2 and M3,
DeepSeek V3.2 (`<invoke name=…>`), MiniCPM 5 (`<function name=…><param name=…>`), GLM 4.5 to 4.7 and
their kin (`name<arg_key>…`), Kimi K3.
"""

import re
from dataclasses import dataclass
from typing import Any

from chat_worker.text.tool_calls.calls import Call, Tools
from chat_worker.text.tool_calls.parsers.parser import End, Found


@dataclass(frozen=True)
class Tags:
    """
    Args:
        call: begins a call; names it in the group `name`.
        key: begins an argument; names it in the group `key`.
        value_end: ends an argument, where a model does not forget it.
        call_end: ends a call, where a model does not forget it.
    """

    call: re.Pattern[str]
    key: re.Pattern[str]
    value_end: re.Pattern[str]
    call_end: re.Pattern[str]


def _tags(call: str, key: str, value_end: str, call_end: str) -> Tags:
    return Tags(*(re.compile(pattern) for pattern in (call, key, value_end, call_end)))


# Marks of a family of models that stand in their tags' names.
_PREFIX = r"(?:｜DSML｜|atem:|minimax:|ns:)?"
_SUFFIX = r"(?::\w+)?"
# What MiniMax M3 and Kimi K3 write around each tag.
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
    # Arguments in tags of their own names, which MiniMax M3 writes.
    _tags(
        rf'\s*{_MM}<invoke name="(?P<name>[^"\n]{{1,256}})">',
        rf"\s*{_MM}<(?P<key>[\w.-]{{1,256}})>",
        rf"{_MM}</[\w.-]{{1,256}}>\s*$",
        rf"{_MM}</invoke>",
    ),
)
# Lists of MiniMax M3, and texts of MiniCPM 5.
ITEM = re.compile(rf"{_MM}<item>(.*?){_MM}</item>", re.S)
ITEMS = re.compile(rf"\s*(?:{_MM}<item>.*?{_MM}</item>\s*)+", re.S)
CDATA = re.compile(r"\s*<!\[CDATA\[(.*)\]\]>\s*", re.S)


def read_tagged_parameters(text: str, tools: Tools, end: End | None) -> Found | None:
    return next((found for tags in KINDS if (found := _read(text, tools, end, tags))), None)


def _read(text: str, tools: Tools, end: End | None, tags: Tags) -> Found | None:
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
            # Another kind of tags, or none.
            return None
        call = tools.call(name, arguments)
        if call is None:
            return None
        calls.append(call)
        at = behind
    return Found(calls, at) if calls else None


def _span(text: str, at: int, end: End | None, tags: Tags) -> tuple[int, int] | None:
    """Where a call's arguments end, and where the call does."""
    for mark in tags.call_end.finditer(text, at):
        inside = text[at : mark.start()]
        # A value may hold the mark too: then no value ends before it.
        if not inside.strip() or tags.value_end.search(inside):
            return mark.start(), mark.end()
    if end is None:
        return None
    # Its end was forgotten: it ends where the next one begins, or all calls do.
    limit = len(text) if end.limit is None else end.limit
    following = next((m.start() for m in tags.call.finditer(text, at, limit)), limit)
    last = next((m for m in tags.call_end.finditer(text, at, following)), None)
    if last is not None:
        return last.start(), last.end()
    return (following, following) if following < len(text) else None


def _arguments(text: str, known: list[str], tags: Tags) -> dict[str, Any]:
    """Values by key; a value ends where the next known key begins."""
    keys = [m for m in tags.key.finditer(text) if not known or m["key"].strip() in known]
    found = {}
    ends = [following.start() for following in keys[1:]] + [len(text)]
    for begun, end in zip(keys, ends, strict=False):
        found[begun["key"].strip()] = _unframed(tags.value_end.sub("", text[begun.end() : end]))
    return found


def _unframed(value: str) -> str | list[str]:
    """Without what some models write around each value."""
    if items := ITEMS.fullmatch(value):
        return ITEM.findall(items[0])
    if cdata := CDATA.fullmatch(value):
        return cdata[1]
    return value[1:].removesuffix("\n") if value.startswith("\n") else value
