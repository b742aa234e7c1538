"""What an answer can be held to: a JSON schema, a regular expression, a grammar or a choice.

Each server's API has its own name for the same format; all these names are accepted.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from common.error_texts import ErrorText
from gateway.schemas.base import MAX_NAME, MAX_TEXT, ApiModel, FreeJson, HistoryModel
from gateway.schemas.sampling import OtherNames, SamplingFields

Pattern = Annotated[str, Field(min_length=1, max_length=32_768)]
Choices = Annotated[list[Pattern], Field(min_length=1, max_length=1024)]
# A schema is sent as an object or as its JSON text.
Schema = FreeJson | Pattern


class JsonSchema(HistoryModel):
    name: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    description: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    schema_: Annotated[FreeJson | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(ApiModel):
    type: Literal["text", "json_object", "json_schema", "json", "regex", "grammar"]
    json_schema: JsonSchema | None = None
    # llama.cpp's clients send the schema of a json_object here.
    schema_: Annotated[FreeJson | None, Field(alias="schema")] = None
    # Hugging Face's clients send the schema or the regular expression here.
    value: FreeJson | Pattern | None = None
    # Fireworks' clients send the grammar here.
    grammar: Pattern | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        is_schema = self.type == "json_schema"
        in_value = is_schema and isinstance(self.value, dict)
        if is_schema != (self.json_schema is not None or in_value):
            raise ValueError(ErrorText("json_schema_needed"))
        if self.schema_ is not None and self.type not in ("json_object", "json"):
            raise ValueError(ErrorText("schema_misplaced"))
        if (self.type in ("regex", "grammar")) != (self.pattern is not None):
            raise ValueError(ErrorText("format_value_needed"))
        return self

    @property
    def pattern(self) -> str | None:
        """The regular expression or the grammar, depending on the type."""
        return self.value if isinstance(self.value, str) else self.grammar

    @property
    def schema_wanted(self) -> dict[str, Any] | None:
        """The schema that is asked for; None if any object will do."""
        if self.json_schema is not None:
            return self.json_schema.schema_ or {}
        if not isinstance(self.value, dict):
            return self.schema_
        # If the type is json_schema, Hugging Face's value may have OpenAI's form.
        inner = self.value.get("schema")
        return inner if self.type == "json_schema" and isinstance(inner, dict) else self.value


class StructuredOutputs(ApiModel):
    """The formats in vLLM's own field, `structured_outputs`."""

    no_effect: ClassVar[frozenset[str]] = frozenset(
        {"disable_any_whitespace", "disable_fallback", "whitespace_pattern"}
    )

    json_: Annotated[Schema | None, Field(alias="json")] = None
    regex: Pattern | None = None
    grammar: Pattern | None = None
    choice: Choices | None = None
    json_object: bool | None = None
    # Objects are closed here anyway.
    disable_additional_properties: bool | None = None
    disable_any_whitespace: Any = None
    disable_fallback: Any = None
    whitespace_pattern: Any = None


class OtherFormats(OtherNames):
    """The formats under the names that vLLM, llama.cpp and Ollama have for them."""

    json_schema: Schema | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | None = None
    guided_regex: Pattern | None = None
    guided_grammar: Pattern | None = None
    guided_choice: Choices | None = None
    format: Literal["json", ""] | FreeJson | None = None
    guided_decoding_backend: Any = None
    guided_whitespace_pattern: Any = None


class FormatFields(SamplingFields, OtherFormats):
    """The formats under all their names; a request may use only one."""

    foreign: ClassVar[frozenset[str]] = OtherNames.foreign | OtherFormats.model_fields.keys()
    echoed: ClassVar[frozenset[str]] = frozenset({"timings_per_token"})

    response_format: ResponseFormat | None = None
    regex: Pattern | None = None
    grammar: Pattern | None = None
    # llama-server's: whether the reply, or each chunk of a stream, has `timings`.
    timings_per_token: bool | None = None
