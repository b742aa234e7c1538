"""What an answer can be held to: JSON of a schema, a regular expression, a grammar, a choice.

The same wish has a name of its own in each server's API; all of them are taken.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from common.error_texts import ErrorText
from gateway.schemas.base import MAX_NAME, MAX_TEXT, ApiModel, FreeJson, HistoryModel
from gateway.schemas.sampling import OtherNames, SamplingFields

Pattern = Annotated[str, Field(min_length=1, max_length=32_768)]
Choices = Annotated[list[Pattern], Field(min_length=1, max_length=1024)]
# As an object, or as its JSON text.
Schema = FreeJson | Pattern


class JsonSchema(HistoryModel):
    name: Annotated[str, Field(max_length=MAX_NAME)] | None = None
    description: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    schema_: Annotated[FreeJson | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(ApiModel):
    type: Literal["text", "json_object", "json_schema", "json", "regex", "grammar"]
    json_schema: JsonSchema | None = None
    # How llama.cpp's clients give a json_object a schema.
    schema_: Annotated[FreeJson | None, Field(alias="schema")] = None
    # Hugging Face's: the schema, or the regular expression.
    value: FreeJson | Pattern | None = None
    # Fireworks' beside type grammar.
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
        """The regular expression or the grammar, whichever its type says."""
        return self.value if isinstance(self.value, str) else self.grammar

    @property
    def schema_wanted(self) -> dict[str, Any] | None:
        """None: any object."""
        if self.json_schema is not None:
            return self.json_schema.schema_ or {}
        if not isinstance(self.value, dict):
            return self.schema_
        # Of type json_schema, Hugging Face's value may have OpenAI's form.
        inner = self.value.get("schema")
        return inner if self.type == "json_schema" and isinstance(inner, dict) else self.value


class StructuredOutputs(HistoryModel):
    """vLLM's."""

    json_: Annotated[Schema | None, Field(alias="json")] = None
    regex: Pattern | None = None
    grammar: Pattern | None = None
    choice: Choices | None = None
    json_object: bool | None = None


class OtherFormats(OtherNames):
    """vLLM's, llama.cpp's and Ollama's names."""

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
    """At most one of them has an effect."""

    foreign: ClassVar[frozenset[str]] = OtherNames.foreign | OtherFormats.model_fields.keys()

    response_format: ResponseFormat | None = None
    regex: Pattern | None = None
    grammar: Pattern | None = None
