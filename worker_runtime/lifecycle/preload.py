"""Loads models before the first request: the default model, and those that settings and models.toml
name."""

import logging
from collections.abc import Iterator
from typing import Never

from common.errors import ServingError
from common.model_ids import folded_id
from worker_runtime.lifecycle.manager import Models
from worker_runtime.settings import RuntimeSettings

FOR_EVER_S = -1.0

log = logging.getLogger(__name__)


async def load_unasked(models: Models, settings: RuntimeSettings, *, default: bool) -> Never:
    """Load them, and later those that models.toml pins when it has changed."""
    await load_early(models, settings, default=default)
    loaded = set(_pinned(models))
    while True:
        n_scans, pinned = models.catalog.n_scans, _pinned(models)
        for model in pinned:
            if model not in loaded:
                await _load(models, model, None)
        loaded = set(pinned)
        await models.catalog.next_change(n_scans)


async def load_early(models: Models, settings: RuntimeSettings, *, default: bool) -> None:
    """Load them one after the other, which takes the least memory; failures are only logged."""
    await models.catalog.first_scan()
    for model, keep_alive_s in wanted(models, settings, default=default):
        await _load(models, model, keep_alive_s)


async def _load(models: Models, model: str, keep_alive_s: float | None) -> None:
    try:
        await models.load(model, keep_alive_s=keep_alive_s)
    except ServingError as error:
        # The worker is still useful: the next request tries again and receives the error.
        log.warning("preloading %r failed: %s", model or "the default model", error)


def _pinned(models: Models) -> list[str]:
    """The models that models.toml pins, for as long as it does."""
    return [entry.id for entry in models.catalog.entries() if entry.options.pinned]


def wanted(
    models: Models, settings: RuntimeSettings, *, default: bool
) -> Iterator[tuple[str, float | None]]:
    """Yield model ids ("" is the default model) and their keep-alive seconds.

    All workers read the same setting, so each one takes only the models that it has.
    """
    here = {folded_id(entry.id) for entry in models.catalog.entries()}
    pinned = [model for model in settings.pinned_models if folded_id(model) in here]
    yield from ((model, FOR_EVER_S) for model in pinned)
    if default:
        yield "", None
    for model in dict.fromkeys((*_pinned(models), *settings.preload_models)):
        if folded_id(model) in here and model not in pinned:
            yield model, None
