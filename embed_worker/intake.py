"""Turns requests from the pipe into calls of the engine, and finished calls into events.

Runs on the front thread, which tokenizes on arrival; the model thread sees token ids only.
"""

from collections.abc import Callable

from msgspec import Raw

from embed_worker.encoders.loaded import LoadedModel
from embed_worker.encoders.tokens import Tokenized
from embed_worker.engine.call import Call, Row
from embed_worker.engine.queue import Queue
from embed_worker.engine.vectors import cosine_to_first, shorten
from embed_worker.messages import (
    Embed,
    Event,
    Ranked,
    Ranking,
    Rerank,
    Tokenize,
    TokenLists,
    Vectors,
    request_decoder,
)
from protos.errors import InvalidRequest, ServingError
from worker_runtime.engine_host import Outbox


class Intake:
    def __init__(self, model: LoadedModel, queue: Queue, outbox: Outbox) -> None:
        self._model = model
        self._queue = queue
        self._outbox = outbox

    def submit(self, call_id: int, body: Raw) -> None:
        """Begin a call; whatever happens to it, its outcome goes to the outbox."""
        try:
            match request_decoder.decode(body):
                case Embed() as request:
                    self._embed(call_id, request)
                case Rerank() as request:
                    self._rerank(call_id, request)
                case Tokenize(texts):
                    self._answer(call_id, TokenLists(self._model.tokens.ids(texts)))
        except ServingError as error:
            self._outbox.ended(call_id, error)

    def _embed(self, call_id: int, request: Embed) -> None:
        self._check_dimensions(request.dimensions)
        if not request.inputs:
            raise InvalidRequest("there is no input", param="input")
        self._queue.check_room(len(request.inputs))
        found = self._model.tokens.rows(
            request.inputs,
            prompt=self._model.prompts.text(request.prompt_name),
            truncate=request.truncate,
        )

        def vectors(call: Call) -> Vectors:
            keep = request.dimensions or call.dimension
            whole = keep == call.dimension
            return Vectors(
                vectors=bytes(call.vectors)
                if whole
                else shorten(call.vectors, call.dimension, keep),
                dimension=keep,
                token_counts=[len(row.ids) for row in call.rows],
                truncated=found.truncated,
                n_cached_tokens=call.n_cached_tokens,
            )

        self._begin(call_id, found.rows, vectors)

    def _rerank(self, call_id: int, request: Rerank) -> None:
        if not request.documents:
            raise InvalidRequest("there are no documents", param="documents")
        self._queue.check_room(len(request.documents) + 1)
        query = self._named("query", [request.query], self._model.prompts.query(), request)
        documents = self._named(
            "documents", request.documents, self._model.prompts.document(), request
        )

        def ranking(call: Call) -> Ranking:
            scores = cosine_to_first(call.vectors, call.dimension)
            best = sorted(range(len(scores)), key=lambda index: -scores[index])
            n_results = len(best) if request.top_n is None else request.top_n
            return Ranking(
                results=[Ranked(index, scores[index]) for index in best[:n_results]],
                method="cosine",
                n_tokens=call.n_tokens,
                n_cached_tokens=call.n_cached_tokens,
            )

        self._begin(call_id, [*query.rows, *documents.rows], ranking)

    def _begin(self, call_id: int, rows: list[Row], event: Callable[[Call], Event]) -> None:
        call = Call(
            call_id,
            rows,
            self._model.runner.dimension,
            on_done=lambda done: self._answer(done.id, event(done)),
            on_failed=lambda error: self._outbox.ended(call_id, error),
        )
        self._queue.check_room(len(rows), call.n_tokens)
        self._queue.add(call)

    def _answer(self, call_id: int, event: Event) -> None:
        self._outbox.event(call_id, event)
        self._outbox.ended(call_id)

    def _named(self, field: str, texts: list[str], prompt: str, request: Rerank) -> Tokenized:
        """Rows of a rerank request's field, errors naming that field."""
        try:
            return self._model.tokens.rows(texts, prompt=prompt, truncate=request.truncate)
        except InvalidRequest as error:
            error.param = (error.param or "").replace("input", field, 1)
            if field == "query":
                error.param = field
            raise

    def _check_dimensions(self, dimensions: int | None) -> None:
        most = self._model.runner.dimension
        if dimensions is not None and not 1 <= dimensions <= most:
            raise InvalidRequest(
                f"dimensions is {dimensions}, the model's vectors have {most}", param="dimensions"
            )
