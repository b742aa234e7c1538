"""A tool's name, followed by its arguments in JSON.

Used by newer Mistral models (`name[ARGS]{…}`), DeepSeek V3 and R1, Kimi K2, gpt-oss, Functionary,
Solar, and models that write `<function=name>{…}</function>`.
"""

import json
import re

from chat_worker.text.json_repair import NotJson, read_json
from chat_worker.text.tool_calls.calls import Call, Tools
from chat_worker.text.tool_calls.parsers.parser import ParsedCalls, ReplyEnd

_NAME = r"(?P<name>[\w.:/-]{1,256}?)"
# The name with what surrounds it, one pattern for each group of models.
HEADS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\s*(?:\[TOOL_CALLS\])?\s*{_NAME}\s*(?:\[CALL_ID\][^\[\n]*)?\[ARGS\]\s*",
        rf"\s*<function={_NAME}>\s*",
        rf"\s*(?:<｜tool▁call▁begin｜>)?(?:function<｜tool▁sep｜>)?{_NAME}"
        r"(?:<｜tool▁sep｜>)?\s*(?:```json)?\s*(?=\{)",
        rf"\s*(?:<\|tool_call_begin\|>)?(?:functions\.)?{_NAME}(?::\d+)?"
        r"<\|tool_call_argument_begin\|>\s*",
        rf"\s*(?:<\|tool_call:begin\|>)[^<\n]*<\|tool_call:name\|>{_NAME}<\|tool_call:args\|>\s*",
        rf"\s*(?:to=)?(?:functions\.)?{_NAME}(?:<\|channel\|>\w+)?\s*"
        r"(?:<\|constrain\|>)?\s*(?:json)?<\|message\|>\s*",
        rf"\s*(?:>>>)?{_NAME}\n(?=\{{)",
    )
)
TAIL = re.compile(
    r"\s*(?:```)?\s*(?:</function>|<｜tool▁call▁end｜>|<\|tool_call_end\|>|<\|tool_call:end\|>|<\|call\|>)?"
)
_decoder = json.JSONDecoder(strict=False)


def parse_named_json(text: str, tools: Tools, end: ReplyEnd | None) -> ParsedCalls | None:
    calls: list[Call] = []
    at = 0
    while (read := _one(text, at, tools, end)) is not None:
        call, at = read
        calls.append(call)
    return ParsedCalls(calls, at) if calls else None


def _one(text: str, at: int, tools: Tools, end: ReplyEnd | None) -> tuple[Call, int] | None:
    for head in HEADS:
        begun = head.match(text, at)
        if begun is None or begun["name"] not in tools or begun.end() >= len(text):
            continue
        if text[begun.end()] != "{":
            continue
        try:
            arguments, behind = _decoder.raw_decode(text, begun.end())
        except (ValueError, RecursionError):
            if end is None or end.limit is None:
                continue
            try:
                arguments, behind = read_json(text[: end.limit], begun.end(), may_be_cut=False)
            except NotJson:
                continue
        call = tools.call(begun["name"], arguments)
        tail = TAIL.match(text, behind)
        if call is not None:
            return call, tail.end() if tail else behind
    return None
