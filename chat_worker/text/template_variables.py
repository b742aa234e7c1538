"""A conversation as chat templates expect it: plain dictionaries in the shape of OpenAI's API."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from chat_worker.pipe_messages import Conversation, Message, Tool, ToolCall
from chat_worker.text.json_repair import arguments_of

Mark = Callable[[str], str]
Arguments = Literal["object", "text"]
NoTools = Literal["none", "list"]


@dataclass(frozen=True)
class Shape:
    """In which of the shapes that are in use a template wants what every conversation has.

    Args:
        arguments: of calls: as an object, or as JSON text.
        no_content: what stands for the text of a message that has calls only.
        no_tools: for a conversation without tools: none at all, or an empty list.
        describes_all: every parameter of a tool has a description, be it empty.
    """

    arguments: Arguments = "object"
    no_content: str | None = ""
    no_tools: NoTools = "none"
    describes_all: bool = False


def variables(
    conversation: Conversation, shape: Shape, *, add_generation_prompt: bool = True
) -> dict[str, Any]:
    """What a template renders, but for the texts of special tokens."""
    tools = [function_of(tool, describes_all=shape.describes_all) for tool in conversation.tools]
    return {
        "add_generation_prompt": add_generation_prompt,
        **conversation.template_kwargs,
        "messages": [_message(message, shape) for message in conversation.messages],
        "tools": tools or ([] if shape.no_tools == "list" else None),
        "documents": None,
        # Firefunction's names for the tools and the day.
        "functions": json.dumps(tools, ensure_ascii=False),
        "datetime": datetime.now().strftime("%B %d %Y"),  # noqa: DTZ005 - the user's own day
    }


def marked(value: Any, mark: Mark) -> Any:
    """`value` with every text in it marked, however deep; names of a template's fields stay."""
    match value:
        case str():
            return mark(value)
        case list():
            return [marked(each, mark) for each in value]
        case dict():
            return {_marked_key(key, mark): marked(each, mark) for key, each in value.items()}
        case _:
            return value


def _marked_key(key: str, mark: Mark) -> str:
    # Templates look for fields by their names.
    return key if key.isidentifier() else mark(key)


def function_of(tool: Tool, *, describes_all: bool = False) -> dict[str, Any]:
    """A tool as OpenAI's API has it, which is what templates expect."""
    parameters = arguments_of(tool.parameters)
    if describes_all:
        parameters = _described(parameters)
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _message(message: Message, shape: Shape) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    plain: dict[str, Any] = {"role": role, "content": message.content}
    if message.name:
        plain["name"] = message.name
    if message.tool_call_id:
        plain["tool_call_id"] = message.tool_call_id
    if message.reasoning:
        plain["reasoning_content"] = message.reasoning
    if message.tool_calls:
        plain["content"] = message.content or shape.no_content
        plain["tool_calls"] = [_call(call, shape) for call in message.tool_calls]
    return plain


def _call(call: ToolCall, shape: Shape) -> dict[str, Any]:
    arguments: Any = arguments_of(call.arguments)
    if shape.arguments == "text":
        arguments = json.dumps(arguments, ensure_ascii=False)
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _described(parameters: dict[str, Any]) -> dict[str, Any]:
    properties = parameters.get("properties")
    if not isinstance(properties, dict):
        return parameters
    described = {
        name: {"description": "", "type": "string"} | inner if isinstance(inner, dict) else inner
        for name, inner in properties.items()
    }
    return parameters | {"properties": described}
