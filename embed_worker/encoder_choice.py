"""Which model serves a request: the one it names, else the default model of the required kind."""

from collections.abc import Callable

from common.error_texts import ErrorText
from common.errors import InvalidRequest, ModelNotFound
from embed_worker.library import RERANKERS
from worker_runtime.catalog import Catalog, ModelEntry


class EncoderChoice:
    """Resolves the models of requests.

    Args:
        fallback_to_default: use the default also for unknown names, as the earlier server did.
    """

    def __init__(self, catalog: Catalog, *, fallback_to_default: bool) -> None:
        self._catalog = catalog
        self._fallback_to_default = fallback_to_default

    def any(self, model: str) -> str:
        """The id of the model, of whatever kind.

        Raises:
            ModelNotFound: there is no such model.
            BackendLoadFailed: its files are broken.
        """
        return self._named(model, self._default).id

    def embedder(self, model: str) -> str:
        """The id of a model that computes vectors.

        Raises:
            InvalidRequest: the model computes no vectors; otherwise as for `any`.
        """
        entry = self._named(model, self._default)
        if entry.backend in RERANKERS:
            raise InvalidRequest(
                ErrorText("model_scores_pairs", model=entry.id),
                param="model",
                suggestions=(ErrorText("use_rerank"), ErrorText("use_embedding_model")),
            )
        return entry.id

    def reranker(self, model: str) -> str:
        """As `any`, for reranking: the default scores pairs if one does."""
        return self._named(model, self._default_reranker).id

    def _named(self, model: str, default: Callable[[], ModelEntry]) -> ModelEntry:
        try:
            return self._catalog.resolve(model) if model else default()
        except ModelNotFound:
            if not (model and self._fallback_to_default):
                raise
            return default()

    def _default(self) -> ModelEntry:
        return self._catalog.resolve("")

    def _default_reranker(self) -> ModelEntry:
        rerankers = (
            entry
            for entry in self._catalog.entries()
            if entry.backend in RERANKERS and not entry.broken
        )
        return next(rerankers, None) or self._default()
