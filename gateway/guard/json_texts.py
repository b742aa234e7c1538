"""Rules on JSON text: arguments and schemas, whose strings may be written with escapes."""

import re
from collections.abc import Iterator

import orjson

from gateway.guard.matcher import Match, Matcher, redacted

# A string that is cut off is text like any other.
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def checked_json(text: str, matcher: Matcher) -> tuple[str, list[Match]]:
    """The JSON with redactions within its strings, and what matched.

    Each string is a text of its own, as whoever decodes it sees it. What is outside of strings,
    such as a number, becomes a string where it is redacted.
    """
    parts = list(_parts(text))
    if not matcher.finds_any("\n".join(decoded for _, decoded, _ in parts)):
        return text, []
    pieces, found = [], []
    for raw, decoded, is_string in parts:
        matches = matcher.find(decoded)
        found += matches
        redactions = [match for match in matches if match.rule.action == "redact"]
        if not redactions:
            pieces.append(raw)
        elif is_string:
            pieces.append(_encoded(redacted(decoded, redactions)))
        else:
            pieces.append(redacted(decoded, redactions, _encoded))
    return "".join(pieces), found


def _parts(text: str) -> Iterator[tuple[str, str, bool]]:
    """Each string, and what is between: as it is written, what it says, and whether it is a
    string."""
    at = 0
    for found in _STRING.finditer(text):
        if between := text[at : found.start()]:
            yield between, between, False
        yield found[0], _decoded(found[0]), True
        at = found.end()
    if rest := text[at:]:
        yield rest, rest, False


def _decoded(literal: str) -> str:
    if "\\" not in literal:
        return literal[1:-1]
    try:
        return str(orjson.loads(literal))
    except orjson.JSONDecodeError:
        return literal[1:-1]


def _encoded(text: str) -> str:
    return orjson.dumps(text).decode()
