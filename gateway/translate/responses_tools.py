"""Translates the tools of a Responses API request to functions that any model can call, and back.

A function in a namespace gets a name that contains both names. A custom tool becomes a function
with one text, `input`. The client gets the model's calls under the names that it knows.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from gateway.schemas.responses import ResponsesRequest
from gateway.schemas.responses_tools import (
    AllowedTools,
    CustomFormat,
    CustomTool,
    FunctionTool,
    NamedTool,
    Namespace,
)
from gateway.translate.request_parts import as_tool, tool_choice
from protos.y26hkx.v1 import chat_pb2

BETWEEN = "__"
INPUT = "input"
# A grammar of one regular expression, and the syntax that a schema's pattern does not allow.
_ONE_REGEX = re.compile(r"\s*start\s*:\s*/((?:[^/\\\n]|\\.)+)/\s*")
_NOT_REGULAR = re.compile(r"\(\?[=!<P]|\\[1-9bB]")


@dataclass(frozen=True)
class OfferedTool:
    """A tool that a model can call.

    Args:
        name: the name that the model knows.
        tool: the tool as the client describes it.
        namespace: the namespace of the tool; None if it is in none.
    """

    name: str
    tool: FunctionTool | CustomTool
    namespace: str | None = None

    def as_function(self) -> chat_pb2.Tool:
        tool = self.tool
        if isinstance(tool, FunctionTool):
            return as_tool(self.name, tool.description, tool.parameters, tool.strict)
        said = "\n\n".join(part for part in (tool.description, _told(tool.format)) if part)
        parameters = {
            "type": "object",
            "properties": {INPUT: {"type": "string"} | _held(tool.format)},
            "required": [INPUT],
            "additionalProperties": False,
        }
        return as_tool(self.name, said, parameters, None)

    def is_named_by(self, choice: NamedTool) -> bool:
        is_own = choice.name == self.tool.name and choice.namespace in (None, self.namespace)
        return is_own or choice.name == self.name


def model_name(name: str, namespace: str | None) -> str:
    """Return the name by which a model knows a tool."""
    if namespace is None:
        return name
    return f"{namespace}{name}" if namespace.endswith(BETWEEN) else f"{namespace}{BETWEEN}{name}"


def known_tools(body: ResponsesRequest) -> list[OfferedTool]:
    """Return all tools that can be offered to a model here, which excludes hosted ones."""
    return list(_flat(body))


def offered_tools(body: ResponsesRequest) -> list[OfferedTool]:
    """Return the tools that the model is offered, which `tool_choice` may restrict."""
    choice, tools = body.tool_choice, known_tools(body)
    if not isinstance(choice, AllowedTools):
        return tools
    return [tool for tool in tools if any(map(tool.is_named_by, choice.named))]


def choice_of_tool(body: ResponsesRequest) -> chat_pb2.ToolChoice | None:
    """Return the tool choice of the request; None if it leaves the choice to the default.

    Raises:
        InvalidRequest: the choice needs a tool that the request does not have.
    """
    choice, tools = body.tool_choice, known_tools(body)
    if choice is None or (choice == "auto" and not tools):
        return None
    if choice == "required" and not tools:
        raise InvalidRequest(ErrorText("tool_choice_needs_tools"), param="tool_choice")
    if isinstance(choice, str):
        return tool_choice(choice)
    named = choice.named if isinstance(choice, AllowedTools) else [choice]
    found = [next((t for t in tools if t.is_named_by(one)), None) for one in named]
    if not found or None in found:
        raise InvalidRequest(ErrorText("tool_choice_unknown"), param="tool_choice")
    if isinstance(choice, AllowedTools):
        return tool_choice(choice.mode)
    name = found[0].name if found[0] is not None else ""
    return chat_pb2.ToolChoice(mode=chat_pb2.ToolChoice.MODE_NAMED, name=name)


def as_arguments(text: str) -> str:
    """Return the text of a custom tool's call as the arguments of a function."""
    return json.dumps({INPUT: text}, ensure_ascii=False)


def as_input(arguments: str) -> str:
    """Return the text in a function's arguments; arguments that were cut off stay as they are."""
    try:
        decoded: Any = json.loads(arguments)
    except ValueError:
        return arguments
    found = decoded.get(INPUT) if isinstance(decoded, dict) else None
    return found if isinstance(found, str) else arguments


def _flat(body: ResponsesRequest) -> Iterator[OfferedTool]:
    for tool in body.tools or ():
        if isinstance(tool, Namespace):
            for inner in tool.tools:
                name = model_name(inner.name, tool.name)
                yield OfferedTool(name, inner, tool.name)
        elif isinstance(tool, FunctionTool | CustomTool):
            yield OfferedTool(tool.name, tool)


def _told(form: CustomFormat | None) -> str:
    if form is None or not form.definition:
        return ""
    return f"{INPUT} must follow this {form.syntax or ''} grammar:\n{form.definition}"


def _held(form: CustomFormat | None) -> dict[str, str]:
    """Return a pattern for the text, if its grammar is one regular expression.

    Other grammars are only described to the model: line ends are escaped within JSON, which a Lark
    grammar does not allow for.
    """
    regex = None
    if form is not None and form.definition and form.syntax == "regex":
        regex = form.definition
    elif form is not None and (one := _ONE_REGEX.fullmatch(form.definition or "")):
        regex = one[1].replace("\\/", "/")
    if regex is None or _NOT_REGULAR.search(regex) or not _compiles(regex):
        return {}
    return {"pattern": f"^(?:{regex})$"}


def _compiles(regex: str) -> bool:
    try:
        re.compile(regex)
    except re.error:
        return False
    return True


def by_model_name(tools: Sequence[OfferedTool]) -> dict[str, OfferedTool]:
    return {tool.name: tool for tool in tools}
