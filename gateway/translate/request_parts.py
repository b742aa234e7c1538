"""Parts that several kinds of requests have in common: tools, tool choice, unsupported content."""

import json
from typing import Any

from common.error_texts import ErrorText
from common.errors import UnsupportedParameter
from protos.y26hkx.v1 import chat_pb2


def as_tool(
    name: str, description: str | None, parameters: dict[str, Any] | None, strict: bool | None
) -> chat_pb2.Tool:
    """
    Args:
        parameters: a JSON schema; None: the tool has no parameters.
        strict: whether calls must follow the schema.
    """
    return chat_pb2.Tool(
        name=name,
        description=description or "",
        parameters_json=json.dumps(parameters or {}, ensure_ascii=False),
        strict=bool(strict),
    )


def tool_choice(mode: str) -> chat_pb2.ToolChoice:
    """Of no tool by name: "none", "auto" or "required"."""
    return chat_pb2.ToolChoice(mode=chat_pb2.ToolChoice.Mode.Value(f"MODE_{mode.upper()}"))


def not_text(kind: str, param: str) -> UnsupportedParameter:
    """The error for content of type `kind` at `param`."""
    return UnsupportedParameter(
        ErrorText("content_unsupported", kind=kind),
        param=param,
        suggestions=(ErrorText("send_text"),),
    )
