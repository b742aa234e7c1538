"""`POST /v1/embeddings`."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.schemas.base import ApiModel, ModelId, TokenId
from gateway.schemas.keep_alive import KeepAlive

MAX_INPUTS = 2048
MAX_TEXT = 8 * 1024 * 1024
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
# true cuts the end, false refuses.
Truncation = Literal["end", "start", "none", "END", "START", "NONE"] | bool
InputType = Literal[
    "query",
    "document",
    "passage",
    "search_query",
    "search_document",
    "classification",
    "clustering",
]
# fail_fast: 600,000 errors of one body would block the event loop for seconds.
Tokens = Annotated[list[TokenId], Field(min_length=1, max_length=65_536, fail_fast=True)]


class EmbeddingRequest(ApiModel):
    # One input or several, each a text or token ids.
    input: (
        Text
        | Tokens
        | Annotated[list[Text | Tokens], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)]
    )
    model: ModelId | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=65_536)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    input_type: InputType | None = None
    prompt_name: Annotated[str, Field(max_length=64)] | None = None
    truncate: Truncation | None = None
    # vLLM's field: the most tokens of each input; -1: as many as the model accepts.
    truncate_prompt_tokens: Annotated[int, Field(ge=1, le=2**20)] | Literal[-1] | None = None
    # infinity's clients send it with every request.
    modality: Literal["text"] | None = None
    keep_alive: KeepAlive | None = None
