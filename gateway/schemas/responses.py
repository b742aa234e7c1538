"""`POST /v1/responses`, as OpenAI's clients and Codex send it."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from common.error_texts import ErrorText
from common.errors import InvalidRequest, UnsupportedParameter
from gateway.schemas.base import (
    MAX_ENTRIES,
    MAX_NAME,
    FreeJson,
    HistoryModel,
    at_most,
    refuse_moved,
    unknown_inside,
    within,
)
from gateway.schemas.chat import Text, as_required
from gateway.schemas.responses_items import HostedItem, Item, ItemId
from gateway.schemas.responses_tools import (
    AllowedTools,
    AnyTool,
    Description,
    HostedTool,
    NamedTool,
    hosted,
    is_hosted,
)
from gateway.schemas.sampling import SamplingFields, TokenLimit

OFFERED = ("function", "custom", "namespace")
ToolChoice = Annotated[
    Literal["none", "auto", "required"] | NamedTool | AllowedTools, BeforeValidator(as_required)
]
LOGPROBS = "message.output_text.logprobs"
Label = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[Annotated[str, Field(max_length=64)], Label], at_most(16)]


class TextFormat(HistoryModel):
    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    description: Description | None = None
    schema_: Annotated[FreeJson | None, Field(alias="schema")] = None
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if self.type == "json_schema" and (self.name is None or self.schema_ is None):
            raise ValueError(ErrorText("json_schema_incomplete"))
        return self


class TextOptions(HistoryModel):
    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningOptions(HistoryModel):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class Conversation(HistoryModel):
    id: ItemId


class ResponsesRequest(SamplingFields):
    # These fields come back in the reply; `store` also decides whether it is stored.
    echoed = frozenset({"metadata", "store"})

    input: Text | Annotated[list[Item], Field(min_length=1, max_length=MAX_ENTRIES, fail_fast=True)]
    instructions: Text | None = None
    max_output_tokens: TokenLimit | None = None
    include: Annotated[list[Label], Field(max_length=16)] | None = None
    top_logprobs: Annotated[int, within("top_logprobs")] | None = None
    tools: Annotated[list[AnyTool], Field(max_length=MAX_ENTRIES, fail_fast=True)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, within("answer.max_tokens")] | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: Metadata | None = None
    # What Codex says of itself is accepted, but has no effect here.
    client_metadata: FreeJson | None = None
    # The response or the conversation that this request continues.
    previous_response_id: ItemId | None = None
    conversation: ItemId | Conversation | None = None
    background: bool | None = None
    # This field is known, but a request that uses it is refused.
    prompt: FreeJson | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_this_api(cls, value: Any) -> Any:
        if isinstance(value, dict):
            refuse_moved(value, MOVED)
            _refuse_unknown_tools(value)
        return value

    @model_validator(mode="after")
    def _asks_for_what_is_kept(self) -> Self:
        if self.prompt:
            raise UnsupportedParameter(ErrorText("prompt_unsupported"), param="prompt")
        if self.background and self.store is False:
            raise InvalidRequest(ErrorText("background_needs_store"), param="background")
        return self

    @property
    def conversation_id(self) -> str:
        """The id of the conversation; empty if there is none."""
        found = self.conversation
        return found.id if isinstance(found, Conversation) else found or ""

    @property
    def wants_logprobs(self) -> bool:
        return LOGPROBS in (self.include or ())


# Parameters of chat completions, and their places in this API.
MOVED = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "logprobs": f"include: [{LOGPROBS!r}]",
    "n": "requests of their own: each has one reply",
}


def without_effect(body: ResponsesRequest) -> set[str]:
    """Return the names of fields of only this API that the client set and that have no effect."""
    text, reasoning = body.text or TextOptions(), body.reasoning or ReasoningOptions()
    nested = {
        "text.verbosity": text.verbosity,
        "reasoning.summary": reasoning.summary or reasoning.generate_summary,
        "max_tool_calls": body.max_tool_calls,
        "include": [name for name in body.include or () if name != LOGPROBS],
        "top_logprobs": not body.wants_logprobs and body.top_logprobs,
    }
    found = {name for name, sent in nested.items() if sent}
    found |= {*unknown_inside(body.input), *unknown_inside(body.text), *unknown_inside(reasoning)}
    tools = [tool for tool in body.tools or () if not isinstance(tool, HostedTool)]
    found |= {*hosted(body.tools or ()), *unknown_inside(tools)}
    items = [] if isinstance(body.input, str) else body.input
    return found | {f"input.{item.type}" for item in items if isinstance(item, HostedItem)}


def _refuse_unknown_tools(value: dict[str, Any]) -> None:
    """Refuse tools that can neither be offered to the model nor are known to be hosted ones.

    Raises:
        UnsupportedParameter: there is such a tool.
    """
    tools = value.get("tools")
    for at, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind not in OFFERED and not is_hosted(kind):
            raise UnsupportedParameter(
                ErrorText("only_function_tools"),
                param=f"tools[{at}].type",
                suggestions=(ErrorText("offer_as_function"),),
            )
