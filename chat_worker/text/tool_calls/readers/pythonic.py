"""Calls in Python's notation, in a list: `[get_weather(city="Paris", days=2), now()]`.

LFM2, and the small models of Llama 3.2 and 4.
"""

import ast
from typing import Any

from chat_worker.text.tool_calls.calls import Call, Tools
from chat_worker.text.tool_calls.readers.reader import Found, skip_space

MAX_CHARS = 256 * 1024
MAX_BRACKETS = 64
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def read_pythonic(text: str, tools: Tools, limit: int | None) -> Found | None:
    at = skip_space(text, 0)
    end = _end_of_brackets(text, at)
    if end is None or end - at > MAX_CHARS:
        return None
    try:
        # Raw line breaks in texts are no valid Python, and between values mean nothing.
        tree = ast.parse(text[at:end].replace("\n", "\\n"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    calls = [_call(node, tools) for node in (tree.elts if isinstance(tree, ast.List) else [tree])]
    whole = [call for call in calls if call is not None]
    return Found(whole, end) if whole and len(whole) == len(calls) else None


def _call(node: ast.expr, tools: Tools) -> Call | None:
    if not isinstance(node, ast.Call):
        return None
    name = ast.unparse(node.func)
    if name not in tools:
        return None
    try:
        arguments: dict[str, Any] = {
            key: ast.literal_eval(value)
            for key, value in zip(tools.properties(name), node.args, strict=False)
        }
        arguments |= {word.arg: _literal(word.value) for word in node.keywords if word.arg}
    except (ValueError, TypeError, RecursionError):
        return None
    return tools.call(name, arguments)


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[node.id]
    value = ast.literal_eval(node)
    return list(value) if isinstance(value, tuple | set) else value


def _end_of_brackets(text: str, at: int) -> int | None:
    """Behind the bracket that ends the expression at `at`; None if it does not end."""
    closing: list[str] = []
    quote = ""
    skip = False
    for index in range(at, len(text)):
        character = text[index]
        if skip:
            skip = False
        elif quote:
            skip = character == "\\"
            quote = "" if character == quote else quote
        elif character in "\"'" and closing:
            quote = character
        elif character in _PAIRS:
            closing.append(_PAIRS[character])
            if len(closing) > MAX_BRACKETS:
                return None
        elif closing and character == closing[-1]:
            closing.pop()
            if not closing:
                return index + 1
        elif not closing and not (character.isalnum() or character in "_."):
            return None
    return None
