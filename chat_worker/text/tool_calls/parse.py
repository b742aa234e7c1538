"""All parsers of tool calls, tried one after the other."""

from chat_worker.text.tool_calls.calls import Tools
from chat_worker.text.tool_calls.parsers.gemma import parse_gemma
from chat_worker.text.tool_calls.parsers.json_objects import parse_json_objects
from chat_worker.text.tool_calls.parsers.named_json import parse_named_json
from chat_worker.text.tool_calls.parsers.parser import ParsedCalls, Parser, ReplyEnd
from chat_worker.text.tool_calls.parsers.pythonic import parse_pythonic
from chat_worker.text.tool_calls.parsers.tagged_parameters import parse_tagged_parameters

PARSERS: tuple[Parser, ...] = (
    parse_json_objects,
    parse_named_json,
    parse_tagged_parameters,
    parse_gemma,
    parse_pythonic,
)


def parse_calls(text: str, tools: Tools, end: ReplyEnd | None) -> ParsedCalls | None:
    """What the first parser that understands `text` finds in it; see `Parser`."""
    parsed = (parser(text, tools, end) for parser in PARSERS)
    return next((calls for calls in parsed if calls is not None), None)
