"""`POST /v1/messages` and `POST /v1/messages/count_tokens`, as Anthropic's clients send them."""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic.json_schema import SkipJsonSchema

from common.error_texts import ErrorText
from common.errors import InvalidRequest, UnsupportedParameter
from gateway.schemas.base import (
    MAX_ENTRIES,
    MAX_NAME,
    ApiModel,
    CallName,
    FreeJson,
    HistoryModel,
    ModelId,
    ToolName,
    one_of_kinds,
    within,
)
from gateway.schemas.chat import Text
from gateway.schemas.keep_alive import KeepAlive
from gateway.schemas.sampling import StopString

ToolUseId = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Word = Annotated[str, Field(max_length=64)]

# Accepted wherever they stand, of no effect here; named in the header x-ignored-parameters.
NO_EFFECT = frozenset(
    {
        "cache_control",
        "citations",
        "caller",
        "toolset_name",
        "redacted_thinking",
        "allowed_callers",
        "defer_loading",
        "eager_input_streaming",
        "input_examples",
        "display",
        "effort",
        "metadata",
        "service_tier",
        "speed",
        "inference_geo",
        "diagnostics",
        "context_management",
        "user_profile_id",
        "workspace_id",
    }
)


class Cacheable(HistoryModel):
    """Where a client may ask for its prefix to be cached, as happens here unasked."""

    cache_control: FreeJson | None = None


class TextBlock(Cacheable):
    type: Literal["text"]
    text: Text
    citations: Any = None


class TextSource(HistoryModel):
    type: Literal["text"]
    media_type: Word | None = None
    data: Text


class OtherSource(ApiModel):
    """A PDF, a page, a file that is kept elsewhere: its document is refused."""

    model_config = ConfigDict(extra="ignore")


class DocumentBlock(Cacheable):
    type: Literal["document"]
    source: Annotated[
        Annotated[TextSource, Tag("text_source")]
        | Annotated[SkipJsonSchema[OtherSource], Tag("other_source")],
        one_of_kinds("source", "text"),
    ]
    title: Text | None = None
    context: Text | None = None
    citations: Any = None

    @property
    def text(self) -> str | None:
        """The document behind its title and context; None if it is no text."""
        if isinstance(self.source, OtherSource):
            return None
        return "\n".join(filter(None, (self.title, self.context, self.source.data)))


class OtherBlock(ApiModel):
    """Images, what Anthropic's own tools say: refused by its type."""

    model_config = ConfigDict(extra="ignore")
    type: Word


class ToolUseBlock(Cacheable):
    type: Literal["tool_use"]
    id: ToolUseId
    name: CallName
    input: FreeJson
    caller: Any = None
    toolset_name: Any = None


ResultPart = Annotated[
    Annotated[TextBlock, Tag("text_block")]
    | Annotated[DocumentBlock, Tag("document_block")]
    | Annotated[SkipJsonSchema[OtherBlock], Tag("other_block")],
    one_of_kinds("block", "text", "document"),
]


class ToolResultBlock(Cacheable):
    type: Literal["tool_result"]
    tool_use_id: ToolUseId
    content: (
        Text | Annotated[list[ResultPart], Field(max_length=MAX_ENTRIES, fail_fast=True)] | None
    ) = None
    is_error: bool | None = None
    toolset_name: Any = None


class ThinkingBlock(HistoryModel):
    type: Literal["thinking"]
    thinking: Text
    # Its maker's proof; none is asked for here.
    signature: Text | None = None


class RedactedThinkingBlock(HistoryModel):
    """Only who made it can read it."""

    type: Literal["redacted_thinking"]
    redacted_thinking: Annotated[Text, Field(alias="data")]


Block = Annotated[
    Annotated[TextBlock, Tag("text_block")]
    | Annotated[DocumentBlock, Tag("document_block")]
    | Annotated[ToolUseBlock, Tag("tool_use_block")]
    | Annotated[ToolResultBlock, Tag("tool_result_block")]
    | Annotated[ThinkingBlock, Tag("thinking_block")]
    | Annotated[RedactedThinkingBlock, Tag("redacted_thinking_block")]
    | Annotated[SkipJsonSchema[OtherBlock], Tag("other_block")],
    one_of_kinds(
        *("block", "text", "document", "tool_use", "tool_result", "thinking", "redacted_thinking")
    ),
]


class Turn(HistoryModel):
    role: Literal["user", "assistant", "system"]
    content: Text | Annotated[list[Block], Field(max_length=MAX_ENTRIES, fail_fast=True)]


class ClientTool(Cacheable):
    type: Literal["custom"] | None = None
    name: ToolName
    description: Text | None = None
    input_schema: FreeJson | None = None
    strict: bool | None = None
    allowed_callers: Annotated[list[Word], Field(max_length=16)] | None = None
    defer_loading: bool | None = None
    eager_input_streaming: bool | None = None
    input_examples: Annotated[list[FreeJson], Field(max_length=64)] | None = None


class ServerTool(ApiModel):
    """Tools that Anthropic runs or defines, such as web_search_20250305: refused by type."""

    model_config = ConfigDict(extra="ignore")
    type: Word


def _who_runs(tool: Any) -> str:
    named = tool.get("type") if isinstance(tool, dict) else None
    return "client" if named in (None, "custom") else "server"


AnyTool = Annotated[
    Annotated[ClientTool, Tag("client")] | Annotated[ServerTool, Tag("server")],
    Discriminator(_who_runs),
]


class ToolChoice(ApiModel):
    type: Literal["auto", "any", "tool", "none"]
    name: ToolName | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(ApiModel):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, within("anthropic.budget_tokens")] | None = None
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(ApiModel):
    type: Literal["json_schema"]
    schema_: Annotated[FreeJson, Field(alias="schema")]


class OutputConfig(ApiModel):
    effort: Word | None = None
    format: OutputFormat | None = None


class CountTokensRequest(ApiModel):
    """What becomes the prompt."""

    cache_control: FreeJson | None = None
    model: ModelId
    messages: Annotated[list[Turn], Field(min_length=1, max_length=MAX_ENTRIES, fail_fast=True)]
    system: (
        Text | Annotated[list[TextBlock], Field(max_length=MAX_ENTRIES, fail_fast=True)] | None
    ) = None
    tools: Annotated[list[AnyTool], Field(max_length=MAX_ENTRIES, fail_fast=True)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    mcp_servers: Annotated[list[FreeJson], Field(max_length=64)] | None = None
    keep_alive: KeepAlive | None = None
    # Known, and refused so that SDKs send the whole conversation instead: nothing is kept here.
    thread: FreeJson | None = None
    context_management: FreeJson | None = None
    speed: Word | None = None
    user_profile_id: Annotated[str, Field(max_length=512)] | None = None
    workspace_id: Annotated[str, Field(max_length=512)] | None = None

    @model_validator(mode="after")
    def _needs_no_memory(self) -> Self:
        if self.thread is not None:
            raise UnsupportedParameter(
                ErrorText("thread_unsupported"),
                param="thread",
                suggestions=(ErrorText("send_all_messages"),),
                metadata={"error_code": "thread_unsupported_request"},
            )
        return self

    @model_validator(mode="after")
    def _thinks_within_a_budget(self) -> Self:
        thinking = self.thinking
        if thinking and (thinking.type == "enabled") != (thinking.budget_tokens is not None):
            raise InvalidRequest(
                ErrorText("budget_needed"),
                param="thinking.budget_tokens",
            )
        return self


class MessagesRequest(CountTokensRequest):
    max_tokens: Annotated[int, within("answer.max_tokens")]
    stop_sequences: Annotated[list[StopString], Field(max_length=16)] | None = None
    stream: bool | None = None
    temperature: Annotated[float, within("anthropic.temperature")] | None = None
    top_p: Annotated[float, within("top_p")] | None = None
    top_k: Annotated[int, within("top_k")] | None = None
    container: FreeJson | Word | None = None
    metadata: FreeJson | None = None
    service_tier: Word | None = None
    inference_geo: Word | None = None
    diagnostics: FreeJson | None = None

    @model_validator(mode="after")
    def _leaves_tokens_to_the_answer(self) -> Self:
        budget = self.thinking.budget_tokens if self.thinking else None
        if budget is not None and budget >= self.max_tokens:
            raise InvalidRequest(
                ErrorText("budget_too_large"),
                param="thinking.budget_tokens",
            )
        return self


def without_effect(model: ApiModel) -> set[str]:
    """Names of fields anywhere in `model` that the client set and that change nothing."""
    found = set(model.__pydantic_extra__ if isinstance(model, HistoryModel) else ())
    for name in model.model_fields_set:
        value = getattr(model, name)
        if name in NO_EFFECT and value:
            found.add(name)
        for inner in value if isinstance(value, list) else (value,):
            if isinstance(inner, ApiModel):
                found |= without_effect(inner)
    return found
