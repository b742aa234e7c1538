"""Translates the format that an answer is held to into a constraint of the gRPC contract."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from gateway.schemas.formats import FormatFields, ResponseFormat, StructuredOutputs
from protos.y26hkx.v1 import chat_pb2

MAX_SCHEMA_BYTES = 32 * 1024
# The client's name of a format, and the constraint that it asks for.
Asked = tuple[str, chat_pb2.Constraint]
_META = re.compile(r"[\\.+*?()|\[\]{}^$]")


def schema_constraint(schema: dict[str, Any] | str, param: str) -> chat_pb2.Constraint:
    """Return the constraint for JSON that follows a schema.

    Args:
        schema: the schema as an object or as its JSON text.
        param: the client's name of the field with the schema.
    Raises:
        InvalidRequest: the schema is too large.
    """
    text = schema if isinstance(schema, str) else json.dumps(schema)
    if len(text) > MAX_SCHEMA_BYTES:
        raise InvalidRequest(
            ErrorText("schema_too_large", most_kib=MAX_SCHEMA_BYTES // 1024), param=param
        )
    return chat_pb2.Constraint(json_schema=text)


def constraint(body: FormatFields) -> chat_pb2.Constraint | None:
    """Return the constraint that the request asks for; None if it asks for none.

    Raises:
        InvalidRequest: the request asks for two formats, or a schema is too large.
    """
    asked = [*_in_our_fields(body), *_in_other_fields(body)]
    if len(asked) > 1:
        raise InvalidRequest(ErrorText("one_format_only"), param=asked[1][0])
    return asked[0][1] if asked else None


def _in_our_fields(body: FormatFields) -> Iterator[Asked]:
    if body.response_format is not None and body.response_format.type != "text":
        yield "response_format", _of_response_format(body.response_format)
    if body.regex:
        yield "regex", chat_pb2.Constraint(regex=body.regex)
    if body.grammar:
        yield "grammar", chat_pb2.Constraint(grammar=body.grammar)


def _in_other_fields(body: FormatFields) -> Iterator[Asked]:
    for name in ("json_schema", "guided_json"):
        if (schema := getattr(body, name)) is not None:
            yield name, schema_constraint(schema, name)
    if body.format:
        yield "format", _of_schema(None if body.format == "json" else body.format, "format")
    if body.guided_regex:
        yield "guided_regex", chat_pb2.Constraint(regex=body.guided_regex)
    if body.guided_grammar:
        yield "guided_grammar", chat_pb2.Constraint(grammar=body.guided_grammar)
    if body.guided_choice:
        yield "guided_choice", _one_of(body.guided_choice)
    if body.structured_outputs is not None:
        for name, found in _of_structured_outputs(body.structured_outputs):
            yield f"structured_outputs.{name}", found


def _of_response_format(asked: ResponseFormat) -> chat_pb2.Constraint:
    if asked.type == "regex":
        return chat_pb2.Constraint(regex=asked.pattern or "")
    if asked.type == "grammar":
        return chat_pb2.Constraint(grammar=asked.pattern or "")
    return _of_schema(asked.schema_wanted, "response_format")


def _of_structured_outputs(asked: StructuredOutputs) -> Iterator[Asked]:
    if asked.json_ is not None:
        yield "json", schema_constraint(asked.json_, "structured_outputs.json")
    if asked.regex:
        yield "regex", chat_pb2.Constraint(regex=asked.regex)
    if asked.grammar:
        yield "grammar", chat_pb2.Constraint(grammar=asked.grammar)
    if asked.choice:
        yield "choice", _one_of(asked.choice)
    if asked.json_object:
        yield "json_object", chat_pb2.Constraint(json_object=True)


def _of_schema(schema: dict[str, Any] | str | None, param: str) -> chat_pb2.Constraint:
    """Return the constraint for a schema.

    Args:
        schema: None if any object will do.
    """
    if schema is None:
        return chat_pb2.Constraint(json_object=True)
    return schema_constraint(schema, param)


def _one_of(texts: Sequence[str]) -> chat_pb2.Constraint:
    alternatives = "|".join(_META.sub(r"\\\g<0>", text) for text in texts)
    return chat_pb2.Constraint(regex=f"(?:{alternatives})")
