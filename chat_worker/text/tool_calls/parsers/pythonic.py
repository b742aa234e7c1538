"""Calls in Python's notation, in a list: `[get_weather(city="Paris", days=2), now()]`.

Used by LFM2 and by the small models of Llama 3.2 and 4.
"""

import ast
import re
from typing import Any

from chat_worker.text.tool_calls.calls import Call, Tools
from chat_worker.text.tool_calls.parsers.parser import ParsedCalls, ReplyEnd, skip_space

MAX_CHARS = 256 * 1024
MAX_BRACKETS = 64
QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
# Characters that models write into texts as they are, and Python wants escaped.
RAW = str.maketrans({"\n": "\\n", "\r": "\\r", "\0": "\\x00"})
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def parse_pythonic(text: str, tools: Tools, end: ReplyEnd | None) -> ParsedCalls | None:
    names = _Names(tools)
    at = skip_space(text, 0)
    behind = _end_of_brackets(text, at)
    if behind is None or behind - at > MAX_CHARS:
        return None
    try:
        tree = ast.parse(names.replaced(text[at:behind]), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    calls = [
        _call(node, tools, names) for node in (tree.elts if isinstance(tree, ast.List) else [tree])
    ]
    whole = [call for call in calls if call is not None]
    return ParsedCalls(whole, behind) if whole and len(whole) == len(calls) else None


class _Names:
    """Replaces the names of tools, which may not be valid names in Python, by valid ones."""

    def __init__(self, tools: Tools) -> None:
        self._names = list(tools.schemas)
        known = "|".join(map(re.escape, sorted(self._names, key=len, reverse=True)))
        self._pattern = re.compile(rf"({QUOTED})|(?<![\w.-])({known})(?=\()", re.S)

    def replaced(self, text: str) -> str:
        """`text` with `_0`, `_1` … for the tools' names, and with `RAW` in texts escaped."""

        def replacement(found: re.Match[str]) -> str:
            if found[1] is not None:
                return found[1].translate(RAW)
            return f"_{self._names.index(found[2])}"

        return self._pattern.sub(replacement, text)

    def meant(self, node: ast.expr) -> str | None:
        """The name of the tool that is called; None if it is not one of the tools."""
        if not isinstance(node, ast.Name) or not re.fullmatch(r"_[0-9]+", node.id):
            return None
        number = int(node.id[1:])
        return self._names[number] if number < len(self._names) else None


def _call(node: ast.expr, tools: Tools, names: _Names) -> Call | None:
    name = names.meant(node.func) if isinstance(node, ast.Call) else None
    if name is None or not isinstance(node, ast.Call):
        return None
    try:
        arguments: dict[str, Any] = {
            key: _literal(value)
            for key, value in zip(tools.properties(name), node.args, strict=False)
        }
        arguments |= {word.arg: _literal(word.value) for word in node.keywords if word.arg}
    except (ValueError, TypeError, RecursionError):
        return None
    return tools.call(name, arguments)


def _literal(node: ast.expr) -> Any:
    """The value of a literal; `true`, `false` and `null` are allowed too.

    Raises:
        ValueError: the expression is not a literal.
    """
    match node:
        case ast.Name(id=("true" | "false" | "null") as word):
            return {"true": True, "false": False, "null": None}[word]
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return [_literal(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {str(_literal(key)): _literal(value) for key, value in pairs if key is not None}
        case _:
            return ast.literal_eval(node)


def _end_of_brackets(text: str, at: int) -> int | None:
    """The position after the bracket that ends the expression at `at`; None if none does."""
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
        elif not closing and not (character.isalnum() or character in "_.-"):
            return None
    return None
