"""`POST /v1/responses`: OpenAI's newer API, as far as it needs no memory on the server."""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from common.error_texts import ErrorText
from common.errors import UnsupportedParameter
from common.sampling_ranges import MAX_TOKENS
from gateway.schemas.base import ApiModel, FreeJson, at_most, one_of_kinds, refuse_moved, within
from gateway.schemas.chat import MAX_TEXT, Name, Text
from gateway.schemas.sampling import SamplingFields

LOGPROBS = "message.output_text.logprobs"
Status = Literal["in_progress", "completed", "incomplete"] | None
ItemId = Annotated[str, Field(max_length=128)]
CallId = Annotated[str, Field(min_length=1, max_length=128)]
Description = Annotated[str, Field(max_length=16_384)]
Label = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[Annotated[str, Field(max_length=64)], Label], at_most(16)]


class TextPart(ApiModel):
    type: Literal["input_text", "output_text"]
    text: Text
    # What SDKs send back from an earlier reply; nothing to say.
    annotations: Annotated[list[FreeJson], Field(max_length=64)] | None = None
    parsed: Any = None
    logprobs: Annotated[list[FreeJson], Field(max_length=MAX_TOKENS)] | None = None
    # Accepted, of no effect here: what is the same is found in the cache unasked.
    prompt_cache_breakpoint: FreeJson | None = None


class RefusalPart(ApiModel):
    type: Literal["refusal"]
    refusal: Text


class OtherPart(ApiModel):
    """Images, audio, files: refused by their type until a model here can see or hear."""

    model_config = ConfigDict(extra="ignore")
    type: Annotated[str, Field(max_length=64)]


Part = Annotated[
    Annotated[TextPart, Tag("input_text_part")]
    | Annotated[TextPart, Tag("output_text_part")]
    | Annotated[RefusalPart, Tag("refusal_part")]
    | Annotated[OtherPart, Tag("other_part")],
    one_of_kinds("part", "input_text", "output_text", "refusal"),
]
Content = Text | Annotated[list[Part], Field(max_length=64, fail_fast=True)]


class Message(ApiModel):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    id: ItemId | None = None
    status: Status = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCall(ApiModel):
    type: Literal["function_call"]
    call_id: CallId
    name: Name
    arguments: Annotated[str, Field(max_length=262_144)]
    # What SDKs made of the arguments; nothing to say.
    parsed_arguments: Any = None
    id: ItemId | None = None
    status: Status = None


class FunctionCallOutput(ApiModel):
    type: Literal["function_call_output"]
    call_id: CallId
    output: Content
    id: ItemId | None = None
    status: Status = None


class ReasoningText(ApiModel):
    type: Literal["summary_text", "reasoning_text"]
    text: Text


class Reasoning(ApiModel):
    type: Literal["reasoning"]
    summary: Annotated[list[ReasoningText], Field(max_length=64)] | None = None
    content: Annotated[list[ReasoningText], Field(max_length=64)] | None = None
    id: ItemId | None = None
    status: Status = None
    # Of another server's making; only that server can read it.
    encrypted_content: Text | None = None


class ItemReference(ApiModel):
    """Known, and refused: nothing is stored that it could point at."""

    type: Literal["item_reference"] | None = None
    id: ItemId


def _kind(value: Any) -> str:
    """An item's type; a message needs none."""
    if not isinstance(value, dict):
        return "message"
    if value.get("type") is None:
        return "item_reference" if value.keys() == {"id"} else "message"
    return str(value["type"])


Item = Annotated[
    Annotated[Message, Tag("message")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")]
    | Annotated[Reasoning, Tag("reasoning")]
    | Annotated[ItemReference, Tag("item_reference")],
    Discriminator(
        _kind,
        custom_error_type="item_kind",
        custom_error_message=(
            "must be a message, a function_call, a function_call_output or a reasoning item"
        ),
    ),
]


class FunctionTool(ApiModel):
    type: Literal["function"]
    name: Name
    description: Description | None = None
    parameters: FreeJson | None = None
    strict: bool | None = None


class NamedTool(ApiModel):
    type: Literal["function"]
    name: Name

    @property
    def names(self) -> set[str]:
        return {self.name}


class AllowedTools(ApiModel):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=128)]

    @property
    def names(self) -> set[str]:
        return {tool.name for tool in self.tools}


class TextFormat(ApiModel):
    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, Field(max_length=64)] | None = None
    description: Description | None = None
    schema_: Annotated[FreeJson | None, Field(alias="schema")] = None
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if self.type == "json_schema" and (self.name is None or self.schema_ is None):
            raise ValueError(ErrorText("json_schema_incomplete"))
        return self


class TextOptions(ApiModel):
    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningOptions(ApiModel):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class ResponsesRequest(SamplingFields):
    echoed = frozenset({"metadata"})

    input: Text | Annotated[list[Item], Field(min_length=1, max_length=1024, fail_fast=True)]
    instructions: Text | None = None
    max_output_tokens: Annotated[int, within("answer.max_tokens")] | None = None
    include: Annotated[list[Label], Field(max_length=16)] | None = None
    top_logprobs: Annotated[int, within("top_logprobs")] | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | AllowedTools | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, within("answer.max_tokens")] | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: Metadata | None = None
    # Known, and refused: they need what a server without memory does not have.
    previous_response_id: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    conversation: Text | FreeJson | None = None
    prompt: FreeJson | None = None
    background: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_this_api(cls, value: Any) -> Any:
        if isinstance(value, dict):
            refuse_moved(value, MOVED)
            _refuse_built_in_tools(value)
        return value

    @model_validator(mode="after")
    def _needs_no_memory(self) -> Self:
        for name in NEED_MEMORY:
            if getattr(self, name):
                raise UnsupportedParameter(
                    ErrorText("stateless_responses", name=name),
                    param=name,
                    suggestions=(ErrorText("send_all_input"),),
                )
        return self

    @property
    def wants_logprobs(self) -> bool:
        return LOGPROBS in (self.include or ())


NEED_MEMORY = ("previous_response_id", "conversation", "prompt", "background")

# Parameters of chat completions, and where they are here.
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
    """Names of fields of this API alone that the client set and that change nothing."""
    text, reasoning = body.text or TextOptions(), body.reasoning or ReasoningOptions()
    nested = {
        "prompt_cache_breakpoint": _has_breakpoint(body.input),
        "text.verbosity": text.verbosity,
        "reasoning.summary": reasoning.summary or reasoning.generate_summary,
        "max_tool_calls": body.max_tool_calls,
        "include": [name for name in body.include or () if name != LOGPROBS],
        "top_logprobs": not body.wants_logprobs and body.top_logprobs,
    }
    return {name for name, sent in nested.items() if sent}


def _has_breakpoint(items: str | list[Item]) -> bool:
    messages = (item for item in items if isinstance(item, Message)) if items else ()
    contents = (item.content for item in messages if isinstance(item.content, list))
    parts = (part for content in contents for part in content)
    return any(isinstance(part, TextPart) and part.prompt_cache_breakpoint for part in parts)


def _refuse_built_in_tools(value: dict[str, Any]) -> None:
    """Tools that OpenAI's servers run themselves."""
    tools = value.get("tools")
    for at, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind != "function":
            raise UnsupportedParameter(
                ErrorText("only_function_tools"),
                param=f"tools[{at}].type",
                suggestions=(ErrorText("offer_as_function"),),
            )
