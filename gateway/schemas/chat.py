"""`POST /v1/chat/completions`."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, Tag, model_validator
from pydantic.json_schema import SkipJsonSchema

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from gateway.schemas.base import (
    MAX_ENTRIES,
    MAX_NAME,
    MAX_TEXT,
    ApiModel,
    CallName,
    FreeJson,
    HistoryModel,
    ToolName,
    at_most,
    one_of_kinds,
    refuse_moved,
    unknown_inside,
    within,
)
from gateway.schemas.formats import FormatFields
from gateway.schemas.sampling import TokenLimit

Text = Annotated[str, Field(max_length=MAX_TEXT)]


class TextPart(HistoryModel):
    type: Literal["text"]
    text: Text


class RefusalPart(HistoryModel):
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
    | Annotated[SkipJsonSchema[OtherPart], Tag("other_part")],
    one_of_kinds("part", "text", "refusal"),
]
Content = Text | Annotated[list[Part], Field(max_length=MAX_ENTRIES, fail_fast=True)]


def _as_json(value: Any) -> Any:
    """Arguments that are an object, as Ollama's clients keep them, as JSON text."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


class FunctionCall(HistoryModel):
    name: CallName
    arguments: Annotated[Text, BeforeValidator(_as_json)] = ""


class ToolCall(HistoryModel):
    id: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    type: Literal["function"] | None = None
    function: FunctionCall
    index: int | None = None


def _filled(name: str, **schema: Any) -> dict[str, Any]:
    """The schema of an object in which `name` is set, and is `schema`."""
    return {"required": [name], "properties": {name: schema}}


# What `_says_something` asks of a message, for the API's description.
_SAYS_SOMETHING: dict[str, Any] = {
    "anyOf": [
        _filled("content", type=["string", "array"]),
        _filled("role", const="assistant")
        | {
            "anyOf": [
                _filled("tool_calls", type="array", minItems=1),
                _filled("function_call", type="object"),
                *(
                    _filled(name, type="string", minLength=1)
                    for name in ("refusal", "reasoning_content", "reasoning")
                ),
            ]
        },
    ],
    "if": _filled("role", const="function"),
    "then": _filled("name", type="string", minLength=1),
}


class Message(HistoryModel):
    model_config = ConfigDict(json_schema_extra=_SAYS_SOMETHING)
    # Evaluation harnesses say so of each message.
    type: Literal["text", "message"] | None = None
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content | None = None
    name: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_ENTRIES)] | None = None
    tool_call_id: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    reasoning_content: Text | None = None
    reasoning: Text | None = None  # vLLM's name for it
    refusal: Text | None = None
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


class Function(HistoryModel):
    name: ToolName
    description: Text | None = None
    parameters: FreeJson | None = None
    strict: bool | None = None


class Tool(HistoryModel):
    type: Literal["function"]
    function: Function


class NamedFunction(ApiModel):
    name: CallName


class NamedTool(ApiModel):
    type: Literal["function"]
    function: NamedFunction


class ToolNames(ApiModel):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MAX_ENTRIES, fail_fast=True)]


class AllowedTools(ApiModel):
    type: Literal["allowed_tools"]
    allowed_tools: ToolNames

    @property
    def names(self) -> set[str]:
        return {tool.function.name for tool in self.allowed_tools.tools}


def as_required(value: Any) -> Any:
    """Anthropic's and Mistral's word for a call that must come."""
    return "required" if value == "any" else value


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("word_choice")]
    | Annotated[NamedTool, Tag("function_choice")]
    | Annotated[AllowedTools, Tag("allowed_tools_choice")],
    one_of_kinds("choice", "function", "allowed_tools", other="word"),
    BeforeValidator(as_required),
]


# Parameters of other servers and of earlier times, and what there is instead.
MOVED = {
    "functions": "tools",
    "function_call": "tool_choice",
    "n_probs": "logprobs and top_logprobs",
}


class PromptEnd(ApiModel):
    """How a prompt ends: an assistant's message at the end is continued unless these say
    otherwise."""

    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    @model_validator(mode="after")
    def _continues_or_begins(self) -> Self:
        if self.continue_final_message and self.add_generation_prompt:
            raise InvalidRequest(ErrorText("continued_or_new"), param="continue_final_message")
        return self

    @property
    def begins_anew(self) -> bool:
        """Whether the answer is a message of its own even after an assistant's."""
        return self.add_generation_prompt is True or self.continue_final_message is False


class ChatRequest(FormatFields, PromptEnd):
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_ENTRIES, fail_fast=True)]
    max_completion_tokens: TokenLimit | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, within("top_logprobs")] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_ENTRIES, fail_fast=True)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: Annotated[dict[str, str | bool | int | float], at_most(16)] | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=4)] | None = None
    reasoning_effort: Annotated[str, Field(max_length=16)] | None = None
    # Ollama's switch: whether the model thinks, or how much.
    think: bool | Annotated[str, Field(max_length=16)] | None = None
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
    found = {*unknown_inside(body.messages), *unknown_inside(body.tools)}
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        found.add("max_tokens")
    return found
