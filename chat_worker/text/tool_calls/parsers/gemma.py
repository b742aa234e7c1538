"""Gemma 4's own notation: `call:get_weather{city:<|"|>Paris<|"|>,days:2}`."""

import json
import re

from chat_worker.text.json_repair import NotJson, read_json
from chat_worker.text.tool_calls.calls import Call, Tools
from chat_worker.text.tool_calls.parsers.parser import ParsedCalls, ReplyEnd

HEAD = re.compile(r"\s*(?:<\|tool_call>)?\s*call:(?P<name>[\w.:-]{1,256})(?=\{)")
QUOTE = '<|"|>'
TAIL = re.compile(r"\s*<tool_call\|>")


def parse_gemma(text: str, tools: Tools, end: ReplyEnd | None) -> ParsedCalls | None:
    calls: list[Call] = []
    at = 0
    while begun := HEAD.match(text, at):
        closer = text.find("<tool_call|>", begun.end())
        if closer < 0:
            break
        try:
            arguments, _ = read_json(_as_json(text[begun.end() : closer]), 0, may_be_cut=False)
        except NotJson:
            return None
        call = tools.call(begun["name"], arguments)
        if call is None:
            return None
        calls.append(call)
        tail = TAIL.match(text, closer)
        at = tail.end() if tail else closer
    return ParsedCalls(calls, at) if calls else None


def _as_json(text: str) -> str:
    """The arguments with texts in JSON's quotes; keys stay without quotes."""
    parts = text.split(QUOTE)
    return "".join(
        json.dumps(part, ensure_ascii=False) if index % 2 else part
        for index, part in enumerate(parts)
    )
