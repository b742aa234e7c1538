"""Joins a query and a document into the row that a reranker receives.

Only documents are truncated: a query without its end would be another query.
"""

from array import array
from collections.abc import Callable, Sequence

import msgspec
import tokenizers

from common.error_texts import ErrorText
from common.errors import BackendLoadFailed, ContextLengthExceeded, InvalidRequest
from embed_worker.encoders.long_texts import Encode, Enough, is_long, token_ids
from embed_worker.encoders.tokens import PROBE, Tokenized, Truncate
from embed_worker.engine.call import TOKEN_TYPE, Row


class Frame(msgspec.Struct, frozen=True):
    """The tokens around the two texts."""

    before: list[int]
    between: list[int]
    after: list[int]
    # How many of the tokens between have the first token type; None: all tokens have it.
    n_between_first: int | None = None

    @property
    def n_tokens(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    def row(self, query: Sequence[int], document: Sequence[int]) -> Row:
        ids = (*self.before, *query, *self.between, *document, *self.after)
        n_first = 0
        if self.n_between_first is not None:
            n_first = len(self.before) + len(query) + self.n_between_first
        return Row(array(TOKEN_TYPE, ids), n_first=n_first)


class Pairs:
    """Builds rows for one model.

    Args:
        encode: reads special tokens in a text as plain text.
        frame: the tokens around the texts.
        max_tokens: of one row, those included.
    """

    def __init__(self, encode: Encode, frame: Frame, *, max_tokens: int) -> None:
        self._encode = encode
        self._frame = frame
        self._max_tokens = max_tokens

    def rows(
        self,
        queries: Sequence[str],
        documents: Sequence[str],
        *,
        truncate: Truncate = "end",
        max_document_tokens: int | None = None,
    ) -> Tokenized:
        """A row for each document with its query, or with the only query.

        Raises:
            InvalidRequest: a query is empty; a document may be.
            ContextLengthExceeded: a query leaves no room for its document, or a document is too
                long and `truncate` is "none".
        """
        if "" in queries:
            raise InvalidRequest(ErrorText("text_empty"), param=f"queries[{queries.index('')}]")
        query_ids = token_ids(self._encode, queries)
        # One token more than fits tells that a document is too long.
        enough = Enough(self._max_tokens + 1, truncate == "start")
        if max_document_tokens is not None:
            enough = Enough(max_document_tokens + 1)
        document_ids = token_ids(self._encode, documents, enough)
        truncated: list[int] = []
        rows: list[Row] = []
        for index, whole in enumerate(document_ids):
            at = index if len(queries) > 1 else 0
            room = self._room(at, len(query_ids[at]))
            content = whole[:max_document_tokens]
            if len(content) > room:
                if truncate == "none":
                    exactly = not is_long(documents[index])
                    raise self._too_long(index, len(content), room, exactly=exactly)
                content = content[-room:] if truncate == "start" else content[:room]
            if len(content) < len(whole):
                truncated.append(index)
            rows.append(self._frame.row(query_ids[at], content))
        return Tokenized(rows, truncated)

    def _room(self, index: int, n_query: int) -> int:
        """The tokens that are left for the document; at least one."""
        room = self._max_tokens - self._frame.n_tokens - n_query
        if room < 1:
            most = self._max_tokens - self._frame.n_tokens - 1
            raise ContextLengthExceeded(
                ErrorText("query_too_long", n_tokens=n_query, most=most),
                param=f"queries[{index}]",
                suggestions=(ErrorText("shorten_query"),),
                metadata={"tokens": str(n_query), "max_tokens": str(most)},
            )
        return room

    def _too_long(
        self, index: int, n_tokens: int, room: int, *, exactly: bool
    ) -> ContextLengthExceeded:
        count = n_tokens if exactly else f"at least {n_tokens}"
        return ContextLengthExceeded(
            ErrorText("document_too_long", n_tokens=count, most=room),
            param=f"documents[{index}]",
            suggestions=(ErrorText("shorten_document"), ErrorText("let_cut")),
            metadata={"tokens": str(n_tokens), "max_tokens": str(room)},
        )


class PairTemplate(msgspec.Struct, frozen=True):
    """The text in which a model expects a query and a document.

    Args:
        head: ends with a mark or a line, and may contain special tokens, as `tail` may.
        before, between: plain text before the query, and before the document.
    """

    head: str
    before: str
    between: str
    tail: str


class TemplatePairs(Pairs):
    """Builds rows for a model that reads a query and a document within one text.

    Args:
        encode_special: reads special tokens in a text as such.
    """

    def __init__(
        self,
        encode: Encode,
        encode_special: Callable[[str], list[int]],
        template: PairTemplate,
        *,
        max_tokens: int,
    ) -> None:
        self._template = template
        self._head, self._tail = encode_special(template.head), encode_special(template.tail)
        before, between = encode([template.before, template.between])
        frame = Frame([*self._head, *before], between, self._tail)
        super().__init__(encode, frame, max_tokens=max_tokens)

    def rows(
        self,
        queries: Sequence[str],
        documents: Sequence[str],
        *,
        truncate: Truncate = "end",
        max_document_tokens: int | None = None,
    ) -> Tokenized:
        found = super().rows(
            queries, documents, truncate=truncate, max_document_tokens=max_document_tokens
        )
        # Texts that fit are tokenized together, because a token may extend over their border.
        whole = [
            index
            for index, document in enumerate(documents)
            if index not in found.truncated and not is_long(document)
        ]
        texts = [self._text(queries[at if len(queries) > 1 else 0], documents[at]) for at in whole]
        rows = list(found.rows)
        for index, ids in zip(whole, token_ids(self._encode, texts), strict=True):
            row = Row(array(TOKEN_TYPE, (*self._head, *ids, *self._tail)))
            if len(row.ids) <= self._max_tokens:
                rows[index] = row
        return Tokenized(rows, found.truncated)

    def _text(self, query: str, document: str) -> str:
        return f"{self._template.before}{query}{self._template.between}{document}"


def encoder_of(tokenizer: tokenizers.Tokenizer) -> Encode:
    """Return a function that encodes texts without special tokens around them."""

    def encode(texts: list[str]) -> list[list[int]]:
        encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encoded]

    return encode


def frame_of(tokenizer: tokenizers.Tokenizer) -> Frame:
    """Return the special tokens that `tokenizer` puts around two texts.

    Raises:
        BackendLoadFailed: it joins texts in an unknown way.
    """
    whole = tokenizer.encode(PROBE, PROBE, add_special_tokens=True)
    sides, ids, types = whole.sequence_ids, whole.ids, whole.type_ids
    n_first = types.count(0)
    known_types = types == [0] * n_first + [1] * (len(types) - n_first)
    if not known_types or 0 not in sides or 1 not in sides:
        raise BackendLoadFailed(ErrorText("pairs_unknown"))
    query_end = len(sides) - sides[::-1].index(0)
    document_end = len(sides) - sides[::-1].index(1)
    return Frame(
        before=ids[: sides.index(0)],
        between=ids[query_end : sides.index(1)],
        after=ids[document_end:],
        n_between_first=n_first - query_end if n_first < len(types) else None,
    )
