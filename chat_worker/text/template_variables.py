"""A conversation as chat templates expect it: plain dictionaries in the form of OpenAI's API."""

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
    """The form in which a template expects what OpenAI's API does not define exactly.

    Args:
        arguments: the arguments of calls are an object, or JSON text.
        no_content: the content of a message that has calls only.
        no_tools: the tools of a conversation without tools are None, or an empty list.
        describes_all: every parameter of a tool needs a description, which may be empty.
    """

    arguments: Arguments = "object"
    no_content: str | None = ""
    no_tools: NoTools = "none"
    describes_all: bool = False


def variables(
    conversation: Conversation, shape: Shape, *, add_generation_prompt: bool = True
) -> dict[str, Any]:
    """The variables with which a template is rendered, except the texts of special tokens."""
    tools = [function_of(tool, describes_all=shape.describes_all) for tool in conversation.tools]
    return {
        "add_generation_prompt": add_generation_prompt,
        **conversation.template_kwargs,
        "messages": [_message(message, shape) for message in conversation.messages],
        "tools": tools or ([] if shape.no_tools == "list" else None),
        "documents": None,
        # Firefunction's names for the tools and the date.
        "functions": json.dumps(tools, ensure_ascii=False),
        "datetime": datetime.now().strftime("%B %d %Y"),  # noqa: DTZ005 - the user's own day
    }


def marked(value: Any, mark: Mark) -> Any:
    """`value` with `mark` applied to every text in it at any depth, except to names of fields."""
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
    # Templates access fields by their names.
    return key if key.isidentifier() else mark(key)


def function_of(tool: Tool, *, describes_all: bool = False) -> dict[str, Any]:
    """A tool in the form of OpenAI's API, which templates expect."""
    parameters = arguments_of(tool.parameters)
    if isinstance(properties := parameters.get("properties"), dict):
        # Many clients leave the type out, and some templates show nothing without it.
        parameters = {"type": "object"} | parameters
        parameters["properties"] = {
            name: {} if inner is True else inner for name, inner in properties.items()
        }
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
