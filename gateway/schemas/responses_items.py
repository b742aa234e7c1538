"""The items of a Responses API conversation, as clients send them back."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag
from pydantic.json_schema import SkipJsonSchema

from gateway.schemas.base import (
    MAX_ENTRIES,
    MAX_NAME,
    ApiModel,
    CallName,
    FreeJson,
    HistoryModel,
    one_of_kinds,
)
from gateway.schemas.chat import OtherPart, RefusalPart, Text

ItemId = Annotated[str, Field(max_length=MAX_NAME)]
CallId = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]


class TextPart(HistoryModel):
    type: Literal["input_text", "output_text", "text"]
    text: Text


Part = Annotated[
    Annotated[TextPart, Tag("input_text_part")]
    | Annotated[SkipJsonSchema[TextPart], Tag("output_text_part")]
    | Annotated[SkipJsonSchema[TextPart], Tag("text_part")]
    | Annotated[RefusalPart, Tag("refusal_part")]
    | Annotated[SkipJsonSchema[OtherPart], Tag("other_part")],
    one_of_kinds("part", "input_text", "output_text", "text", "refusal"),
]
Content = Text | Annotated[list[Part], Field(max_length=MAX_ENTRIES, fail_fast=True)]


class ItemModel(HistoryModel):
    """An item as it may come back from an earlier reply."""

    # These fields are known, but mean nothing to a model.
    id: ItemId | None = None
    status: Annotated[str, Field(max_length=64)] | None = None


class Message(ItemModel):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCall(ItemModel):
    """A call of a function.

    Args:
        namespace: the namespace of the function; None if it is in none.
    """

    type: Literal["function_call"]
    call_id: CallId
    name: CallName
    namespace: CallName | None = None
    arguments: Text


class CustomToolCall(ItemModel):
    """A call whose argument is a text."""

    type: Literal["custom_tool_call"]
    call_id: CallId
    name: CallName
    namespace: CallName | None = None
    input: Text


class LocalShellCall(ItemModel):
    type: Literal["local_shell_call", "shell_call"]
    call_id: CallId
    action: FreeJson


class CallOutput(ItemModel):
    type: Literal[
        "function_call_output",
        "custom_tool_call_output",
        "local_shell_call_output",
        "shell_call_output",
    ]
    # OpenAI's local_shell_call_output has the id of its call in `id`.
    call_id: CallId | None = None
    output: Content | Annotated[list[FreeJson], Field(max_length=MAX_ENTRIES, fail_fast=True)]

    @property
    def answers(self) -> str:
        return self.call_id or self.id or ""


class McpCall(ItemModel):
    """A call that another server made and answered."""

    type: Literal["mcp_call"]
    id: CallId
    name: CallName
    server_label: CallName | None = None
    arguments: Text = ""
    output: Text | None = None
    error: Any = None


class ReasoningText(HistoryModel):
    type: Literal["summary_text", "reasoning_text", "text"]
    text: Text


class Reasoning(ItemModel):
    type: Literal["reasoning"]
    summary: (
        Annotated[list[ReasoningText], Field(max_length=MAX_ENTRIES, fail_fast=True)] | None
    ) = None
    content: (
        Annotated[list[ReasoningText], Field(max_length=MAX_ENTRIES, fail_fast=True)] | None
    ) = None
    # Another server has encrypted this, and only that server can read it.
    encrypted_content: Text | None = None


class HostedItem(ApiModel):
    """What OpenAI's own tools did. It is left out, as it means nothing here, and is reported."""

    model_config = ConfigDict(extra="ignore")
    type: Literal[
        "web_search_call",
        "file_search_call",
        "image_generation_call",
        "code_interpreter_call",
        "computer_call",
        "computer_call_output",
        "tool_search_call",
        "tool_search_output",
        "mcp_list_tools",
        "mcp_approval_request",
        "mcp_approval_response",
        "compaction",
    ]


class ItemReference(ApiModel):
    """A reference to an item of a stored response; the item replaces it."""

    type: Literal["item_reference"] | None = None
    id: ItemId


def _kind(value: Any) -> str:
    """Return the tag of an item's type; an item without a type is a message or a reference."""
    if not isinstance(value, dict):
        return "message"
    kind = value.get("type")
    if kind is None:
        return "item_reference" if value.keys() == {"id"} else "message"
    return _FAMILIES.get(kind, kind) if isinstance(kind, str) else str(kind)


_FAMILIES = (
    dict.fromkeys(HostedItem.model_fields["type"].annotation.__args__, "hosted_item")  # type: ignore[union-attr]
    | dict.fromkeys(CallOutput.model_fields["type"].annotation.__args__, "call_output")  # type: ignore[union-attr]
    | {"shell_call": "local_shell_call"}
)

Item = Annotated[
    Annotated[Message, Tag("message")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[CustomToolCall, Tag("custom_tool_call")]
    | Annotated[LocalShellCall, Tag("local_shell_call")]
    | Annotated[CallOutput, Tag("call_output")]
    | Annotated[McpCall, Tag("mcp_call")]
    | Annotated[Reasoning, Tag("reasoning")]
    | Annotated[HostedItem, Tag("hosted_item")]
    | Annotated[ItemReference, Tag("item_reference")],
    Discriminator(
        _kind,
        custom_error_type="item_kind",
        custom_error_message=(
            "must be a message, a function_call, a function_call_output, a reasoning item or "
            "another known kind"
        ),
    ),
]
