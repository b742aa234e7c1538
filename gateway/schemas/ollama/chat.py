"""`POST /api/chat`."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from gateway.schemas.base import (
    MAX_ENTRIES,
    MAX_NAME,
    CallName,
    FreeJson,
    HistoryModel,
    ModelId,
    ToolName,
    unknown_inside,
    within,
)
from gateway.schemas.chat import Text
from gateway.schemas.keep_alive import KeepAlive
from gateway.schemas.ollama.options import Options

Images = Annotated[list[Any], Field(max_length=64)]
Level = Literal["low", "medium", "high", "max"]


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _as_text(value: Any) -> Any:
    """Arguments as JSON text: an object is how Ollama has them, text how OpenAI's clients do."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


class FunctionCall(HistoryModel):
    name: CallName
    index: int | None = None
    arguments: Annotated[Text, BeforeValidator(_as_text)] = "{}"


class ToolCall(HistoryModel):
    id: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    type: str | None = None
    function: FunctionCall


class Message(HistoryModel):
    role: Annotated[Literal["system", "user", "assistant", "tool"], BeforeValidator(_lower)]
    content: Text | None = None
    thinking: Text | None = None
    images: Images | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_ENTRIES, fail_fast=True)] | None = (
        None
    )
    tool_name: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    # The name of a tool in older clients.
    name: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    tool_call_id: Annotated[str, Field(max_length=MAX_NAME)] | None = None


class Function(HistoryModel):
    name: ToolName
    description: Text | None = None
    parameters: FreeJson | None = None


class Tool(HistoryModel):
    type: Annotated[str, Field(max_length=64)] | None = None
    function: Function


class ModelRequest(HistoryModel):
    """A request about one model, which older clients call `name`. Fields that nobody knows are
    ignored, and named, as Ollama's clients expect of a server that is older than they are."""

    model: ModelId | None = None
    name: ModelId | None = None
    # Replies repeat the name, whatever `model` becomes.
    _sent_name: str = PrivateAttr("")

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        self.model = self._sent_name = self.model or self.name or ""
        if not self.model:
            raise InvalidRequest(ErrorText("model_name_needed"), param="model")
        return self

    @property
    def sent_name(self) -> str:
        """The model's name as the client wrote it."""
        return self._sent_name

    @property
    def model_id(self) -> str:
        """The id of the model, once the name is resolved."""
        return self.model or ""


class GenerationFields(ModelRequest):
    """What chat and generate have in common."""

    stream: bool | None = None
    format: Literal["json", ""] | FreeJson | None = None
    keep_alive: KeepAlive | None = None
    options: Options | None = None
    think: bool | Level | None = None
    # Whether input that is too long may lose its beginning.
    truncate: bool | None = None
    # Whether the beginning may be dropped in the middle of an answer, which never happens here.
    shift: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, within("top_logprobs")] | None = None

    @property
    def streams(self) -> bool:
        return self.stream is not False


class OllamaChatRequest(GenerationFields):
    messages: Annotated[list[Message], Field(max_length=MAX_ENTRIES, fail_fast=True)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_ENTRIES, fail_fast=True)] | None = None


def without_effect(body: GenerationFields) -> set[str]:
    """Names of fields that the client set and that change nothing here."""
    found = set(unknown_inside(body))
    if body.options is not None:
        found.update(body.options.without_effect)
    if body.shift:
        found.add("shift")
    return found
