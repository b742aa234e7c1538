"""What an answer can be held to: JSON of a schema, a regular expression, a grammar."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from common.error_texts import ErrorText
from gateway.schemas.base import ApiModel, FreeJson
from gateway.schemas.sampling import SamplingFields


class JsonSchema(ApiModel):
    name: Annotated[str, Field(max_length=64)] | None = None
    description: Annotated[str, Field(max_length=16_384)] | None = None
    schema_: Annotated[FreeJson | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(ApiModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    # How llama.cpp's clients give a json_object a schema.
    schema_: Annotated[FreeJson | None, Field(alias="schema")] = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError(ErrorText("json_schema_needed"))
        if self.schema_ is not None and self.type != "json_object":
            raise ValueError(ErrorText("schema_misplaced"))
        return self

    @property
    def schema_wanted(self) -> dict[str, Any] | None:
        """None: any object."""
        return self.schema_ if self.json_schema is None else self.json_schema.schema_ or {}


class FormatFields(SamplingFields):
    """At most one of them has an effect."""

    response_format: ResponseFormat | None = None
    regex: Annotated[str, Field(min_length=1, max_length=32_768)] | None = None
    grammar: Annotated[str, Field(min_length=1, max_length=32_768)] | None = None
