"""The tools of the Responses API: functions and custom tools, namespaces of them, hosted tools."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, Tag

from gateway.schemas.base import (
    MAX_ENTRIES,
    MAX_TEXT,
    CallName,
    FreeJson,
    HistoryModel,
    ToolName,
    one_of_kinds,
)

Description = Annotated[str, Field(max_length=MAX_TEXT)]
# Beginnings of the names of tools that OpenAI's servers run or define; a date may follow them.
HOSTED = (
    "web_search",
    "file_search",
    "code_interpreter",
    "computer",
    "image_generation",
    "local_shell",
    "shell",
    "apply_patch",
    "mcp",
    "tool_search",
)


class FunctionTool(HistoryModel):
    type: Literal["function"]
    name: ToolName
    description: Description | None = None
    parameters: FreeJson | None = None
    strict: bool | None = None


class CustomFormat(HistoryModel):
    type: Literal["text", "grammar"]
    syntax: Literal["lark", "regex"] | None = None
    definition: Annotated[str, Field(max_length=MAX_TEXT)] | None = None


class CustomTool(HistoryModel):
    """A tool whose argument is a text, which may have to follow a grammar."""

    type: Literal["custom"]
    name: ToolName
    description: Description | None = None
    format: CustomFormat | None = None


CallableTool = Annotated[
    Annotated[FunctionTool, Tag("function_tool")] | Annotated[CustomTool, Tag("custom_tool")],
    one_of_kinds("tool", "custom", other="function"),
]


class Namespace(HistoryModel):
    type: Literal["namespace"]
    name: ToolName
    description: Description | None = None
    tools: Annotated[list[CallableTool], Field(max_length=MAX_ENTRIES, fail_fast=True)]


class HostedTool(HistoryModel):
    type: Annotated[str, Field(max_length=64)]


AnyTool = Annotated[
    Annotated[FunctionTool, Tag("function_tool")]
    | Annotated[CustomTool, Tag("custom_tool")]
    | Annotated[Namespace, Tag("namespace_tool")]
    | Annotated[HostedTool, Tag("hosted_tool")],
    one_of_kinds("tool", "function", "custom", "namespace", other="hosted"),
]


class NamedTool(HistoryModel):
    """The choice of one tool.

    Args:
        name: the tool's name in its namespace, or the name that the model knows.
    """

    type: Literal["function", "custom"]
    name: CallName
    namespace: CallName | None = None


class AllowedTools(HistoryModel):
    """The tools that may be called; hosted ones have no effect, as none is offered here."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[
        list[NamedTool | HostedTool], Field(min_length=1, max_length=MAX_ENTRIES, fail_fast=True)
    ]

    @property
    def named(self) -> Sequence[NamedTool]:
        return [tool for tool in self.tools if isinstance(tool, NamedTool)]


def is_hosted(kind: Any) -> bool:
    return isinstance(kind, str) and kind.startswith(HOSTED)


def hosted(tools: Sequence[Any]) -> set[str]:
    """Return the kinds of the hosted tools, which are not offered to a model here."""
    return {f"tools.{tool.type}" for tool in tools if isinstance(tool, HostedTool)}
