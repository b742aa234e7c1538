"""`POST /tokenize`, `/detokenize`, `/apply-template`, as vLLM's and llama-server's clients ask."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from common.error_texts import ErrorText
from gateway.schemas.base import MAX_ENTRIES, ApiModel, ModelId, TokenId, at_most
from gateway.schemas.chat import Message, PromptEnd, Tool
from gateway.schemas.keep_alive import KeepAlive

Text = Annotated[str, Field(max_length=2 * 1024 * 1024)]
TemplateKwargs = Annotated[dict[str, str | bool | int | float], at_most(16)]
TEXT_FIELDS = ("prompt", "content", "text")


class TemplateRequest(PromptEnd):
    """A conversation to be written down by the model's own template."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_ENTRIES, fail_fast=True)]
    model: ModelId | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_ENTRIES, fail_fast=True)] | None = None
    chat_template_kwargs: TemplateKwargs | None = None
    keep_alive: KeepAlive | None = None


class TokenizeRequest(PromptEnd):
    """A text under one of three names, or a conversation."""

    model: ModelId | None = None
    prompt: Text | None = None
    content: Text | None = None
    text: Text | None = None
    messages: Annotated[list[Message], Field(max_length=MAX_ENTRIES, fail_fast=True)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_ENTRIES, fail_fast=True)] | None = None
    chat_template_kwargs: TemplateKwargs | None = None
    keep_alive: KeepAlive | None = None
    # Texts of control tokens are those tokens, as a template writes them; if false, plain text.
    parse_special: bool | None = None
    # The tokens that begin every prompt of the model (BOS).
    add_special_tokens: bool | None = None
    add_special: bool | None = None
    # The tokens' texts, in vLLM's and in llama-server's form.
    return_token_strs: bool | None = None
    with_pieces: bool | None = None

    @model_validator(mode="after")
    def _one_input(self) -> Self:
        given = [n for n in (*TEXT_FIELDS, "messages") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(ErrorText("one_text_only"))
        return self

    @property
    def plain_text(self) -> str:
        return next((t for n in TEXT_FIELDS if (t := getattr(self, n)) is not None), "")


class DetokenizeRequest(ApiModel):
    tokens: Annotated[list[TokenId], Field(max_length=131_072, fail_fast=True)]
    model: ModelId | None = None
    keep_alive: KeepAlive | None = None
