"""`{"name": …, "arguments": {…}}`: one object, a list of them, or several in a row.

Used by Qwen 2.5 and 3, Hermes, Llama 3, Granite, Command-R, Nemotron, Apertus, Apriel, MiniMax M1,
GigaChat, older Mistral models, and all models that were not trained on another notation.
"""

import json
from typing import Any

from chat_worker.text.json_repair import NotJson, read_json
from chat_worker.text.tool_calls.calls import Call, Tools
from chat_worker.text.tool_calls.parsers.parser import ParsedCalls, ReplyEnd, skip_space

NAME_KEYS = ("name", "tool_name", "function", "tool")
ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "params")
# Brackets that may be missing at the end of a reply: models forget the outermost ones.
FORGOTTEN_ENDS = ("}", "]", "}]")
_decoder = json.JSONDecoder(strict=False)


def parse_json_objects(text: str, tools: Tools, end: ReplyEnd | None) -> ParsedCalls | None:
    calls: list[Call] = []
    at = behind_all = skip_space(text, 0)
    while at < len(text) and text[at] in "{[":
        read = _value(text, at, end)
        if read is None:
            break
        value, behind = read
        found = [_call(each, tools) for each in (value if isinstance(value, list) else [value])]
        if not found or None in found:
            return None
        calls += [call for call in found if call is not None]
        # Models write too many brackets as often as too few.
        behind_all = skip_space(text, behind, "}]")
        at = skip_space(text, behind_all, ";,")
    return ParsedCalls(calls, behind_all) if calls else None


def _value(text: str, at: int, end: ReplyEnd | None) -> tuple[Any, int] | None:
    try:
        return _decoder.raw_decode(text, at)
    except (ValueError, RecursionError):
        pass
    if end is None:
        return None
    if end.limit is not None:
        try:
            return read_json(text[: end.limit], at, may_be_cut=False)
        except NotJson:
            return None
    for ending in FORGOTTEN_ENDS:
        try:
            value, _ = _decoder.raw_decode(text.rstrip() + ending, at)
        except (ValueError, RecursionError):
            continue
        return value, len(text)
    return _whole_items(text, at) if text[at] == "[" else None


def _whole_items(text: str, at: int) -> tuple[list[Any], int] | None:
    """The complete items at the beginning of a list that was cut off."""
    items: list[Any] = []
    end = at + 1
    while True:
        begin = skip_space(text, end, ",")
        try:
            item, end = _decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            return (items, end) if items else None
        items.append(item)


def _call(value: Any, tools: Tools) -> Call | None:
    if not isinstance(value, dict):
        return None
    for key in NAME_KEYS:
        named = value.get(key)
        if isinstance(named, dict):
            # The form of a call in messages of OpenAI's API.
            return _call(named, tools)
        if isinstance(named, str) and named in tools:
            arguments = next((value[key] for key in ARGUMENT_KEYS if key in value), None)
            return tools.call(named, arguments)
    if len(value) == 1:
        ((name, arguments),) = value.items()
        if isinstance(arguments, dict | None):
            return tools.call(name, arguments)
    return None
