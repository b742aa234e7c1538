"""What an answer is held to, as the contract has it."""

import json
from typing import Any

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from gateway.schemas.formats import FormatFields
from protos.y26hkx.v1 import chat_pb2

MAX_SCHEMA_BYTES = 32 * 1024


def schema_constraint(schema: dict[str, Any], param: str) -> chat_pb2.Constraint:
    """
    Args:
        param: what the client calls it.
    Raises:
        InvalidRequest: it is too large.
    """
    text = json.dumps(schema)
    if len(text) > MAX_SCHEMA_BYTES:
        raise InvalidRequest(
            ErrorText("schema_too_large", most_kib=MAX_SCHEMA_BYTES // 1024), param=param
        )
    return chat_pb2.Constraint(json_schema=text)


def constraint(body: FormatFields) -> chat_pb2.Constraint | None:
    """
    Raises:
        InvalidRequest: two formats are asked for, or a schema is too large.
    """
    asked = [name for name, value in (("regex", body.regex), ("grammar", body.grammar)) if value]
    formatted = body.response_format is not None and body.response_format.type != "text"
    if len(asked) + formatted > 1:
        raise InvalidRequest(ErrorText("one_format_only"), param=asked[0])
    if body.regex:
        return chat_pb2.Constraint(regex=body.regex)
    if body.grammar:
        return chat_pb2.Constraint(grammar=body.grammar)
    if not formatted or body.response_format is None:
        return None
    wanted = body.response_format.schema_wanted
    if wanted is None:
        return chat_pb2.Constraint(json_object=True)
    return schema_constraint(wanted, "response_format")
