"""Turns a request's constraint into the grammar that llguidance compiles."""

import json
from typing import TYPE_CHECKING, Any

from llguidance import LLMatcher, LLParserLimits
from llguidance.gbnf_to_lark import GbnfToLarkError, gbnf_to_lark

from chat_worker.constraints.schemas import Enforceable, enforceable
from chat_worker.pipe_messages import ConstraintSpec
from common.error_texts import ErrorText
from common.errors import InvalidRequest

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

# By llguidance's own figures, these allow about 20 ms for a lexer, and 15 ms and 3 ms for a mask.
LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,
    step_max_items=50_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)
ANY_OBJECT = {"type": "object"}
PARAMS = {
    "json_object": "response_format",
    "json_schema": "response_format",
    "regex": "regex",
    "grammar": "grammar",
    "tools": "tools",
}


def grammar_of(constraint: ConstraintSpec, param: str) -> str:
    """Return the grammar of a constraint, in the form that `LLMatcher` takes.

    Args:
        param: the request's field that an error names.
    Raises:
        InvalidRequest: the constraint is malformed.
    """
    match constraint.kind:
        case "regex":
            return LLMatcher.grammar_from_regex(constraint.text)
        case "grammar":
            return LLMatcher.grammar_from_lark(_lark(constraint.text))
        case "tools":
            return LLMatcher.grammar_from_lark(constraint.text)
        case "json_object" | "json_schema":
            return json_grammar(answer_schema(constraint))


def _lark(text: str) -> str:
    """Return a grammar in llguidance's variant of Lark, converted from llama.cpp's GBNF if needed.

    Raises:
        InvalidRequest: the text is not valid GBNF.
    """
    if "::=" not in text:
        return text
    try:
        return gbnf_to_lark(text)
    except GbnfToLarkError as error:
        refused = ErrorText("constraint_refused", kind="grammar", detail=str(error)[:200])
        raise InvalidRequest(refused, param="grammar") from error


def answer_schema(constraint: ConstraintSpec) -> dict[str, Any]:
    """Return the schema that an answer in JSON must follow.

    Raises:
        InvalidRequest: the client's schema is not a JSON object.
    """
    return _answer(constraint).schema


def ignored_keywords(constraint: ConstraintSpec) -> tuple[str, ...]:
    """Return the keywords of the client's schema that are not enforced.

    Raises:
        InvalidRequest: the client's schema is not a JSON object.
    """
    if constraint.kind not in ("json_object", "json_schema"):
        return ()
    return _answer(constraint).ignored


def _answer(constraint: ConstraintSpec) -> Enforceable:
    schema = ANY_OBJECT
    if constraint.kind == "json_schema":
        schema = parsed(constraint.text, PARAMS[constraint.kind])
    # Objects are closed by default; a schema that describes no property would then allow only {}.
    return enforceable(
        ANY_OBJECT | {"additionalProperties": True} if schema == ANY_OBJECT else schema
    )


def json_grammar(schema: dict[str, Any]) -> str:
    """Return the grammar of JSON that follows `schema`."""
    return LLMatcher.grammar_from_json_schema(schema, overrides=json_layout())


def json_layout(key_separator: str = ": ", item_separator: str = ", ") -> "JsonCompileOptions":
    """Return llguidance's options for JSON's white space, by default that of `json.dumps`.

    Models were trained on this layout. Flexible white space would let an unsure model write line
    breaks until its tokens are used up.
    """
    return {
        "whitespace_flexible": False,
        "key_separator": key_separator,
        "item_separator": item_separator,
        "coerce_one_of": True,
    }


def parsed(text: str, param: str) -> dict[str, Any]:
    """Parse a client's schema.

    Raises:
        InvalidRequest: `text` is not a JSON object.
    """
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(ErrorText("schema_not_json"), param=param) from error
    if not isinstance(schema, dict):
        raise InvalidRequest(ErrorText("schema_not_object"), param=param)
    return schema
