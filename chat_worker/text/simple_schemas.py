"""Tools' schemas with what every chat template understands.

Templates written for one model read a schema with a few lines of their own, which fail, or never
end, where they do not expect what JSON Schema allows: a list of types, a schema that is `true`, no
description. The model then sees a plainer schema in the form that it was trained on; the arguments
that it writes still follow the original one.
"""

import json
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from chat_worker.pipe_messages import Conversation, Tool
from chat_worker.text.json_repair import arguments_of

MAX_DEPTH = 32


def with_simple_schemas(conversation: Conversation) -> Conversation:
    """The same conversation with a plainer schema for each of its tools."""
    return replace(conversation, tools=[_simple_tool(tool) for tool in conversation.tools])


def _simple_tool(tool: Tool) -> Tool:
    schema = {"type": "object", "properties": {}, **_simple(arguments_of(tool.parameters), 0)}
    return replace(tool, parameters=json.dumps(schema, ensure_ascii=False))


def _simple(schema: Any, depth: int) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        return {"type": "string", "description": ""}
    simple = {key: value for key, value in schema.items() if value is not None}
    kind = simple.get("type", "object" if "properties" in simple else None)
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    simple |= {"description": simple.get("description", "")} | ({"type": kind} if kind else {})
    if kind == "object":
        simple["required"] = simple.get("required", [])
        simple["additionalProperties"] = simple.get("additionalProperties", {})
        properties = simple.get("properties")
        found = properties.items() if isinstance(properties, Mapping) else ()
        simple["properties"] = {name: _simple(inner, depth + 1) for name, inner in found}
    if "items" in simple:
        simple["items"] = _simple(simple["items"], depth + 1)
    return simple
