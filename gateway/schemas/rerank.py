"""`POST /v1/rerank` and `POST /v1/score`."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.schemas.common import ApiModel, ModelId
from gateway.schemas.embeddings import Text, Truncation
from gateway.schemas.keep_alive import KeepAlive

MAX_DOCUMENTS = 1000
Texts = Annotated[list[Text], Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True)]


class Document(ApiModel):
    text: Text


class RerankRequest(ApiModel):
    """Cohere's and Jina's fields, and those of text-embeddings-inference, which names the
    documents `texts` and gets its own shape of reply.
    """

    query: Text
    documents: (
        Annotated[
            list[Text | Document],
            Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True),
        ]
        | None
    ) = None
    texts: Texts | None = None
    model: ModelId | None = None
    top_n: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    return_documents: bool | None = None
    return_text: bool | None = None
    raw_scores: bool | None = None
    max_tokens_per_doc: Annotated[int, Field(ge=1, le=2**20)] | None = None
    truncate: Truncation | None = None
    truncation_direction: Literal["left", "Left", "right", "Right"] | None = None
    keep_alive: KeepAlive | None = None
    # Documents have no other field.
    rank_fields: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    # Accepted, of no effect here.
    max_chunks_per_doc: Annotated[int, Field(ge=1, le=2**20)] | None = None
    priority: Annotated[int, Field(ge=0, le=999)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None


class ScoreRequest(ApiModel):
    """vLLM's fields."""

    text_1: Text | Texts
    text_2: Text | Texts
    model: ModelId | None = None
    raw_scores: bool | None = None
    truncate: Truncation | None = None
    keep_alive: KeepAlive | None = None
    # Accepted, of no effect here.
    priority: Annotated[int, Field(ge=0, le=999)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
