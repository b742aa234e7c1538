"""Converts requests to calls of the engine, and finished calls to events.

Tokenizes on arrival, on the thread that has the request; the model thread receives token ids only.
"""

import threading
from collections.abc import Callable
from typing import Protocol, cast

from common.error_texts import ErrorText
from common.errors import InvalidRequest, ServingError, UnsupportedParameter
from embed_worker.encoders.loaded import LoadedEncoder
from embed_worker.encoders.tokens import Tokenized
from embed_worker.engine.cache import Cache
from embed_worker.engine.call import EncodeCall, Row
from embed_worker.engine.queue import Queue
from embed_worker.engine.vectors import cosines, numbers, shorten, sigmoids
from embed_worker.pipe_messages import (
    Embed,
    EncoderEvent,
    EncoderRequest,
    LoadSpec,
    Score,
    Scores,
    Tokenize,
    TokenLists,
    Truncate,
    Vectors,
)


class Replies(Protocol):
    """Takes the results of calls, on whichever thread has them."""

    def answer(self, call_id: int, event: EncoderEvent, /) -> None: ...

    def ended(self, call_id: int, error: ServingError, /) -> None: ...


class RequestHandler:
    def __init__(self, model: LoadedEncoder, spec: LoadSpec, queue: Queue, cache: Cache) -> None:
        self._model = model
        self._spec = spec
        self._queue = queue
        self._cache = cache
        # A tokenizer, and the cache on disk, are used by one thread at a time.
        self._lock = threading.Lock()

    def begin(self, call_id: int, request: EncoderRequest, replies: Replies) -> None:
        """Begin a call; `replies` gets its result or its error in any case.

        Args:
            call_id: different from those of all open calls.
        """
        try:
            with self._lock:
                match request:
                    case Embed():
                        self._embed(call_id, request, replies)
                    case Score() if self._model.pairs is None:
                        self._compare(call_id, request, replies)
                    case Score():
                        self._score(call_id, request, replies)
                    case Tokenize():
                        self._tokenize(call_id, request, replies)
        except ServingError as error:
            replies.ended(call_id, error)

    def _embed(self, call_id: int, request: Embed, replies: Replies) -> None:
        keep = self._dimensions(request.dimensions)
        if not request.inputs:
            raise InvalidRequest(ErrorText("no_input"), param="input")
        self._queue.check_room(len(request.inputs))
        prompt, ignored = self._prompt(request)
        found = self._model.tokens.rows(
            request.inputs,
            prompt=prompt,
            truncate=request.truncate,
            max_tokens=request.max_tokens,
        )

        def vectors(call: EncodeCall) -> Vectors:
            # A client that names a length wants it of unit vectors, the whole one too.
            as_they_are = request.dimensions is None and keep == call.dimension
            return Vectors(
                # Written without a copy: msgspec accepts any buffer.
                vectors=cast(bytes, call.vectors)
                if as_they_are
                else shorten(call.vectors, call.dimension, keep),
                dimension=keep,
                token_counts=[len(row.ids) for row in call.rows],
                truncated=found.truncated,
                n_cached_tokens=call.n_cached_tokens,
                ignored=ignored,
                caches=dict(self._cache.take_counts()),
            )

        self._add(call_id, found.rows, vectors, replies)

    def _score(self, call_id: int, request: Score, replies: Replies) -> None:
        """Score with a cross-encoder, which reads both texts at once."""
        assert self._model.pairs is not None
        self._check_pairs(request, n_rows=len(request.documents))
        found = self._model.pairs.rows(
            request.queries,
            request.documents,
            truncate=request.truncate,
            max_document_tokens=request.max_document_tokens,
        )
        is_raw = request.raw_scores or self._model.activation == "identity"

        def scores(call: EncodeCall) -> Scores:
            values = numbers(call.vectors) if is_raw else sigmoids(call.vectors)
            return Scores(
                scores=values,
                method="cross-encoder",
                n_tokens=call.n_tokens,
                truncated=found.truncated,
                n_cached_tokens=call.n_cached_tokens,
                caches=dict(self._cache.take_counts()),
            )

        self._add(call_id, found.rows, scores, replies)

    def _compare(self, call_id: int, request: Score, replies: Replies) -> None:
        """Score by the vectors of both texts, with the model's own prompts for search."""
        n_queries = len(request.queries)
        self._check_pairs(request, n_rows=n_queries + len(request.documents))
        prompts = self._model.prompts
        queries = self._side("queries", request.queries, prompts.query(), "none")
        documents = self._side(
            "documents",
            request.documents,
            prompts.document(),
            request.truncate,
            request.max_document_tokens,
            may_be_empty=True,
        )

        def scores(call: EncodeCall) -> Scores:
            return Scores(
                scores=cosines(call.vectors, call.dimension, n_queries),
                method="cosine",
                n_tokens=call.n_tokens,
                truncated=documents.truncated,
                n_cached_tokens=call.n_cached_tokens,
                caches=dict(self._cache.take_counts()),
            )

        self._add(call_id, [*queries.rows, *documents.rows], scores, replies)

    def _tokenize(self, call_id: int, request: Tokenize, replies: Replies) -> None:
        tokens = self._model.tokens
        ids = tokens.ids(request.texts, add_special=request.add_special)
        pieces = [tokens.pieces(of_text) for of_text in ids] if request.with_pieces else []
        replies.answer(call_id, TokenLists(ids, pieces))

    def _add(
        self,
        call_id: int,
        rows: list[Row],
        event: Callable[[EncodeCall], EncoderEvent],
        replies: Replies,
    ) -> None:
        call = EncodeCall(
            call_id,
            rows,
            self._model.runner.dimension,
            on_done=lambda done: replies.answer(call_id, event(done)),
            on_failed=lambda error: replies.ended(call_id, error),
        )
        self._queue.check_room(len(rows), call.n_tokens)
        self._queue.add(call)

    def _prompt(self, request: Embed) -> tuple[str, list[str]]:
        """The prompt, and the request's fields that have no effect on it."""
        prompts = self._model.prompts
        if request.input_type and not request.prompt_name:
            prompt = prompts.text_for(request.input_type)
            made = prompts.made_for(request.input_type)
            return prompt, ["input_type"] if made is None and prompt == prompts.text("") else []
        return prompts.text(request.prompt_name), ["input_type"] if request.input_type else []

    def _dimensions(self, wanted: int | None) -> int:
        """How many leading numbers of each vector are wanted.

        Raises:
            InvalidRequest: the vectors have fewer.
            UnsupportedParameter: shortened vectors of this model are meaningless.
        """
        most = self._model.runner.dimension
        if wanted is None:
            return min(self._spec.default_dimensions or most, most)
        if not 1 <= wanted <= most:
            raise InvalidRequest(
                ErrorText("dimensions_too_many", wanted=wanted, most=most), param="dimensions"
            )
        if wanted < most and not self._spec.may_shorten:
            raise UnsupportedParameter(
                ErrorText("dimensions_fixed"),
                param="dimensions",
                suggestions=(ErrorText("leave_dimensions_out"), ErrorText("use_truncatable_model")),
            )
        return wanted

    def _check_pairs(self, request: Score, *, n_rows: int) -> None:
        n_queries, n_documents = len(request.queries), len(request.documents)
        if not n_documents:
            raise InvalidRequest(ErrorText("no_documents"), param="documents")
        if n_queries not in (1, n_documents):
            raise InvalidRequest(
                ErrorText("queries_unpaired", n_queries=n_queries, n_documents=n_documents),
                param="queries",
            )
        self._queue.check_room(n_rows)

    def _side(
        self,
        field: str,
        texts: list[str],
        prompt: str,
        truncate: Truncate,
        max_text_tokens: int | None = None,
        *,
        may_be_empty: bool = False,
    ) -> Tokenized:
        """Rows for one side of the pairs; errors name that side."""
        try:
            return self._model.tokens.rows(
                texts,
                prompt=prompt,
                truncate=truncate,
                max_text_tokens=max_text_tokens,
                may_be_empty=may_be_empty,
            )
        except InvalidRequest as error:
            error.param = (error.param or "").replace("input", field, 1)
            raise
