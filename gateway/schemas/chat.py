"""`POST /v1/chat/completions`."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from gateway.schemas.common import (
    MAX_TOKENS,
    ApiModel,
    FreeJson,
    SamplingFields,
    at_most,
    refuse_moved,
)
from protos.errors import InvalidRequest

MAX_TEXT = 2 * 1024 * 1024
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
Text = Annotated[str, Field(max_length=MAX_TEXT)]


class TextPart(ApiModel):
    type: Literal["text"]
    text: Text


class OtherPart(ApiModel):
    """Images, audio and files: known, and refused until a model here can see or hear."""

    type: Literal["image_url", "input_audio", "file", "refusal"]
    image_url: FreeJson | Text | None = None
    input_audio: FreeJson | None = None
    file: FreeJson | None = None
    refusal: Text | None = None


Part = Annotated[TextPart | OtherPart, Field(discriminator="type")]
Content = Text | Annotated[list[Part], Field(max_length=64, fail_fast=True)]


class FunctionCall(ApiModel):
    name: Name
    arguments: Annotated[str, Field(max_length=262_144)]


class ToolCall(ApiModel):
    id: Annotated[str, Field(max_length=128)] = ""
    type: Literal["function"] = "function"
    function: FunctionCall
    index: Annotated[int, Field(ge=0, le=1024)] | None = None


class Message(ApiModel):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content | None = None
    name: Annotated[str, Field(max_length=128)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=64)] | None = None
    tool_call_id: Annotated[str, Field(max_length=128)] | None = None
    reasoning_content: Text | None = None
    # What SDKs send back from an earlier reply; nothing to say.
    refusal: Text | None = None
    annotations: Annotated[list[FreeJson], Field(max_length=64)] | None = None
    audio: FreeJson | None = None
    # How calls were written before there were tools; their results have the role "function".
    function_call: FunctionCall | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        calls = self.tool_calls or self.function_call
        if self.content is None and not (self.role == "assistant" and calls):
            raise ValueError("content is missing")
        if self.role == "function" and not self.name:
            raise ValueError("name is missing")
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


class JsonSchema(ApiModel):
    name: Annotated[str, Field(max_length=64)]
    description: Annotated[str, Field(max_length=16_384)] | None = None
    schema_: Annotated[FreeJson | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(ApiModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema is missing")
        return self


# Parameters of other servers and of earlier times, and what there is instead.
MOVED = {
    "functions": "tools",
    "function_call": "tool_choice",
    "think": "chat_template_kwargs.enable_thinking",
    "options": "its fields beside messages",
    "format": "response_format",
    "guided_json": "response_format of type json_schema",
    "guided_regex": "regex",
    "guided_grammar": "grammar",
    "json_schema": "response_format of type json_schema",
    "n_predict": "max_tokens",
    "num_predict": "max_tokens",
    "repeat_penalty": "repetition_penalty",
    "n_probs": "logprobs and top_logprobs",
}


class ChatRequest(SamplingFields):
    messages: Annotated[list[Message], Field(min_length=1, max_length=512, fail_fast=True)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    regex: Annotated[str, Field(max_length=32_768)] | None = None
    grammar: Annotated[str, Field(max_length=32_768)] | None = None
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
            raise InvalidRequest("top_logprobs needs logprobs: true", param="top_logprobs")
        return self
