"""`POST /v1/chat/completions`."""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, Tag, model_validator

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from gateway.schemas.base import ApiModel, FreeJson, at_most, one_of_kinds, refuse_moved, within
from gateway.schemas.formats import FormatFields

MAX_TEXT = 2 * 1024 * 1024
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
Text = Annotated[str, Field(max_length=MAX_TEXT)]


class TextPart(ApiModel):
    type: Literal["text"]
    text: Text
    # Accepted, of no effect here: what is the same is found in the cache unasked.
    cache_control: FreeJson | None = None
    prompt_cache_breakpoint: FreeJson | None = None


class RefusalPart(ApiModel):
    """Of an assistant's earlier message."""

    type: Literal["refusal"]
    refusal: Text


class OtherPart(ApiModel):
    """Images, audio, files: refused by their type until a model here can see or hear."""

    model_config = ConfigDict(extra="ignore")
    type: Annotated[str, Field(max_length=64)]


Part = Annotated[
    Annotated[TextPart, Tag("text_part")]
    | Annotated[RefusalPart, Tag("refusal_part")]
    | Annotated[OtherPart, Tag("other_part")],
    one_of_kinds("part", "text", "refusal"),
]
Content = Text | Annotated[list[Part], Field(max_length=64, fail_fast=True)]


class FunctionCall(ApiModel):
    name: Name
    arguments: Annotated[str, Field(max_length=262_144)]
    # What SDKs made of the arguments; nothing to say.
    parsed_arguments: Any = None


class ToolCall(ApiModel):
    id: Annotated[str, Field(max_length=128)] = ""
    type: Literal["function"] = "function"
    function: FunctionCall
    index: Annotated[int, Field(ge=0, le=1024)] | None = None


class Message(ApiModel):
    # Evaluation harnesses say so of each message.
    type: Literal["text", "message"] | None = None
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content | None = None
    name: Annotated[str, Field(max_length=128)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=64)] | None = None
    tool_call_id: Annotated[str, Field(max_length=128)] | None = None
    reasoning_content: Text | None = None
    reasoning: Text | None = None  # vLLM's name for it
    refusal: Text | None = None
    # What SDKs send back from an earlier reply; nothing to say.
    annotations: Annotated[list[FreeJson], Field(max_length=64)] | None = None
    audio: FreeJson | None = None
    parsed: Any = None
    # How calls were written before there were tools; their results have the role "function".
    function_call: FunctionCall | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        thought = self.reasoning_content or self.reasoning
        other = self.tool_calls or self.function_call or self.refusal or thought
        if self.content is None and not (self.role == "assistant" and other):
            raise ValueError(ErrorText("content_missing"))
        if self.role == "function" and not self.name:
            raise ValueError(ErrorText("name_missing"))
        return self


class Function(ApiModel):
    name: Name
    description: Annotated[str, Field(max_length=16_384)] | None = None
    parameters: FreeJson | None = None
    strict: bool | None = None


class Tool(ApiModel):
    type: Literal["function"]
    function: Function


class NamedFunction(ApiModel):
    name: Name


class NamedTool(ApiModel):
    type: Literal["function"]
    function: NamedFunction


class ToolNames(ApiModel):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=128)]


class AllowedTools(ApiModel):
    type: Literal["allowed_tools"]
    allowed_tools: ToolNames

    @property
    def names(self) -> set[str]:
        return {tool.function.name for tool in self.allowed_tools.tools}


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("word_choice")]
    | Annotated[NamedTool, Tag("function_choice")]
    | Annotated[AllowedTools, Tag("allowed_tools_choice")],
    one_of_kinds("choice", "function", "allowed_tools", other="word"),
]


# Parameters of other servers and of earlier times, and what there is instead.
MOVED = {
    "functions": "tools",
    "function_call": "tool_choice",
    "think": "chat_template_kwargs.enable_thinking",
    "options": "its fields beside messages",
    "format": "response_format",
    "guided_json": "response_format of type json_schema",
    "guided_choice": "regex",
    "guided_regex": "regex",
    "guided_grammar": "grammar",
    "structured_outputs": "response_format, regex or grammar",
    "json_schema": "response_format of type json_schema",
    "n_predict": "max_tokens",
    "num_predict": "max_tokens",
    "repeat_penalty": "repetition_penalty",
    "n_probs": "logprobs and top_logprobs",
}


class ChatRequest(FormatFields):
    messages: Annotated[list[Message], Field(min_length=1, max_length=512, fail_fast=True)]
    max_completion_tokens: Annotated[int, within("answer.max_tokens")] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, within("top_logprobs")] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: Annotated[dict[str, str | bool | int | float], at_most(16)] | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=4)] | None = None
    reasoning_effort: Annotated[str, Field(max_length=16)] | None = None
    verbosity: Annotated[str, Field(max_length=16)] | None = None
    prediction: FreeJson | None = None

    @model_validator(mode="before")
    @classmethod
    def _names_are_of_this_api(cls, value: Any) -> Any:
        refuse_moved(value, MOVED)
        return value

    @model_validator(mode="after")
    def _top_logprobs_need_logprobs(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest(ErrorText("needs_logprobs"), param="top_logprobs")
        return self


def without_effect(body: ChatRequest) -> set[str]:
    """Names of fields of this API alone that the client set and that change nothing."""
    contents = (m.content for m in body.messages if isinstance(m.content, list))
    parts = [part for content in contents for part in content if isinstance(part, TextPart)]
    found = {
        n for n in ("cache_control", "prompt_cache_breakpoint") if any(getattr(p, n) for p in parts)
    }
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        found.add("max_tokens")
    return found
