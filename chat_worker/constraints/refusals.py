"""Why a schema, regular expression or grammar cannot be enforced, in a client's terms."""

import json
from collections.abc import Iterator
from typing import Any

from llguidance import LLMatcher

from chat_worker.constraints.compile import LIMITS, json_grammar, parsed
from chat_worker.constraints.schemas import enforceable
from chat_worker.pipe_messages import ConstraintSpec
from common.error_texts import ErrorText
from common.errors import InvalidRequest

MAX_PLACES = 500
# llguidance's term for a state in which no token is allowed.
DEAD_END = "NoExtension"
# Keywords of a schema that contain other schemas: one, a list of them, or several by name.
INNER = ("items", "additionalProperties", "not", "contains", "if", "then", "else")
INNER_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
INNER_NAMED = ("properties", "patternProperties", "$defs", "definitions")


def refusal(constraint: ConstraintSpec, param: str, reason: str) -> InvalidRequest:
    reason = _in_short(reason)
    if constraint.kind != "json_schema":
        return InvalidRequest(
            ErrorText("constraint_refused", kind=constraint.kind, detail=reason), param=param
        )
    try:
        place, reason = _culprit(parsed(constraint.text, param), reason)
    except RecursionError:
        place, reason = "#", ErrorText("nested_too_deeply")
    return InvalidRequest(
        ErrorText("schema_refused_at", place=place, detail=reason),
        param=param,
        suggestions=(ErrorText("leave_keyword_out"), ErrorText("use_other_keyword")),
    )


def _in_short(complaint: str) -> str:
    """One line of llguidance's message.

    For a regular expression the reason is the last line; the lines before it mark the place.
    """
    if DEAD_END in complaint:
        return ErrorText("nothing_satisfies")
    lines = complaint.split("\n")
    found = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (found[-1] if found else lines[0])[:200]


def _culprit(schema: dict[str, Any], reason: str) -> tuple[str, str]:
    """The deepest inner schema that fails by itself, and the reason; the root if none fails."""
    place = "#"
    n_left = MAX_PLACES
    found = True
    while found:
        found = False
        for name, inner in _inner_schemas(schema):
            n_left -= 1
            if n_left < 0:
                break
            complaint = LLMatcher.validate_grammar(
                json_grammar(enforceable(inner).schema), limits=LIMITS
            )
            # References are resolved in the root, which an inner schema alone does not contain.
            if complaint and "$ref" not in json.dumps(inner):
                place, reason = f"{place}/{name}", _in_short(complaint)
                schema, found = inner, True
                break
    return place[:200], reason


def _inner_schemas(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key in INNER:
        if isinstance(inner := schema.get(key), dict):
            yield key, inner
    for key in INNER_LISTS:
        listed = schema.get(key)
        for index, inner in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(inner, dict):
                yield f"{key}/{index}", inner
    for key in INNER_NAMED:
        named = schema.get(key)
        for name, inner in named.items() if isinstance(named, dict) else ():
            if isinstance(inner, dict):
                yield f"{key}/{name}", inner
