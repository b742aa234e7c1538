"""Joins a query and a document into the row that a cross-encoder receives.

Only documents are truncated: a query without its end would be another query.
"""

from array import array
from collections.abc import Sequence

import msgspec
import tokenizers

from common.error_texts import ErrorText
from common.errors import BackendLoadFailed, ContextLengthExceeded, InvalidRequest
from embed_worker.encoders.long_texts import Enough, is_long, token_ids
from embed_worker.encoders.tokens import PROBE, Tokenized, Truncate
from embed_worker.engine.call import TOKEN_TYPE, Row


class _Frame(msgspec.Struct, frozen=True):
    """The special tokens around the two texts."""

    before: list[int]
    between: list[int]
    after: list[int]
    # How many of the tokens between have the first token type; None: all tokens have it.
    n_between_first: int | None

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
        tokenizer: without truncation and padding; it reads special tokens in a text as plain text.
        max_tokens: of one row, special tokens included.
    Raises:
        BackendLoadFailed: the tokenizer joins texts in an unknown way.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, *, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._frame = _frame(tokenizer)
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

    def _encode(self, texts: list[str]) -> list[list[int]]:
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encoded]

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


def _frame(tokenizer: tokenizers.Tokenizer) -> _Frame:
    whole = tokenizer.encode(PROBE, PROBE, add_special_tokens=True)
    sides, ids, types = whole.sequence_ids, whole.ids, whole.type_ids
    n_first = types.count(0)
    known_types = types == [0] * n_first + [1] * (len(types) - n_first)
    if not known_types or 0 not in sides or 1 not in sides:
        raise BackendLoadFailed(ErrorText("pairs_unknown"))
    query_end = len(sides) - sides[::-1].index(0)
    document_end = len(sides) - sides[::-1].index(1)
    return _Frame(
        before=ids[: sides.index(0)],
        between=ids[query_end : sides.index(1)],
        after=ids[document_end:],
        n_between_first=n_first - query_end if n_first < len(types) else None,
    )
