"""`POST /v1/rerank` and `POST /v1/score`."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from gateway.schemas.base import ApiModel, ModelId
from gateway.schemas.embeddings import MAX_INPUTS, MAX_TEXT, Text, Truncation
from gateway.schemas.keep_alive import KeepAlive

MAX_DOCUMENTS = MAX_INPUTS
FIRST = ("text_1", "queries", "data_1")
SECOND = ("text_2", "documents", "items", "data_2")
# An empty one has a score like any other, so that one of many costs nobody the rest.
Ranked = Annotated[str, Field(max_length=MAX_TEXT)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True)]


class Document(ApiModel):
    """A document that is ranked by its text; its other fields are returned with it."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Any]

    text: Ranked


class RerankRequest(ApiModel):
    """The fields of Cohere and Jina, and those of text-embeddings-inference, which names the
    documents `texts` and gets a reply in its own format.
    """

    query: Text
    documents: (
        Annotated[
            list[Ranked | Document],
            Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True),
        ]
        | None
    ) = None
    texts: (
        Annotated[list[Ranked], Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True)]
        | None
    ) = None
    model: ModelId | None = None
    top_n: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    return_documents: bool | None = None
    return_text: bool | None = None
    raw_scores: bool | None = None
    use_activation: bool | None = None
    max_tokens_per_doc: Annotated[int, Field(ge=1, le=2**20)] | None = None
    truncate: Truncation | None = None
    truncation_direction: Literal["left", "Left", "right", "Right"] | None = None
    keep_alive: KeepAlive | None = None
    # Only the text of a document is ranked.
    rank_fields: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    # Accepted, without effect.
    max_chunks_per_doc: Annotated[int, Field(ge=1, le=2**20)] | None = None
    priority: Annotated[int, Field(ge=0, le=999)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None


class ScoreRequest(ApiModel):
    """vLLM's fields, which has several names for the texts of either side."""

    text_1: Text | Texts | None = None
    queries: Text | Texts | None = None
    data_1: Text | Texts | None = None
    text_2: Text | Texts | None = None
    documents: Text | Texts | None = None
    items: Text | Texts | None = None
    data_2: Text | Texts | None = None
    model: ModelId | None = None
    raw_scores: bool | None = None
    use_activation: bool | None = None
    truncate: Truncation | None = None
    keep_alive: KeepAlive | None = None
    # Accepted, without effect.
    priority: Annotated[int, Field(ge=0, le=999)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None

    def side(self, names: tuple[str, ...]) -> tuple[str, str | list[str]]:
        """The name that the client used, and the texts.

        Raises:
            InvalidRequest: the client sent none of `names`, or several.
        """
        given = [(n, texts) for n in names if (texts := getattr(self, n)) is not None]
        if len(given) != 1:
            raise InvalidRequest(
                ErrorText("exactly_one_of", names=", ".join(names)), param=names[0]
            )
        return given[0]
