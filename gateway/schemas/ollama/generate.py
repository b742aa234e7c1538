"""`POST /api/generate`."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from common.error_texts import ErrorText
from common.errors import InvalidRequest, UnsupportedParameter
from gateway.schemas.chat import Text
from gateway.schemas.ollama.chat import GenerationFields, Images
from gateway.schemas.ollama.chat import without_effect as without_effect_in_common

MAX_CONTEXT = 1_000_000


class GenerateRequest(GenerationFields):
    prompt: Text | None = None
    suffix: Text | None = None
    system: Text | None = None
    template: Text | None = None
    # What the reply before returned, which holds the conversation so far.
    context: Annotated[list[int], Field(max_length=MAX_CONTEXT, fail_fast=True)] | None = None
    raw: bool | None = None
    images: Images | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.template:
            raise UnsupportedParameter(
                ErrorText("template_unsupported"),
                param="template",
                suggestions=(ErrorText("use_raw"),),
            )
        if self.raw and (self.system or self.context):
            raise InvalidRequest(ErrorText("raw_alone"), param="raw")
        return self


def without_effect(body: GenerateRequest) -> set[str]:
    """Names of fields that the client set and that change nothing here."""
    found = without_effect_in_common(body)
    if body.suffix or body.raw:
        # What is filled in or continued is no conversation.
        found |= {name for name in ("system", "context", "think") if getattr(body, name)}
    return found
