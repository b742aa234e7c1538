"""A worker's gRPC server from bind to drain."""

from collections.abc import Callable

import grpc.aio

from worker_runtime.catalog import Capability, Catalog
from worker_runtime.lifecycle import Models
from worker_runtime.settings import RuntimeSettings


def local_models(settings: RuntimeSettings, catalog: Catalog) -> Models:
    """`Models` with real processes, time and memory, as `settings` say (enter it before use)."""
    raise NotImplementedError


async def serve(
    *,
    settings: RuntimeSettings,
    capability: Capability,
    models: Models,
    add_service: Callable[[grpc.aio.Server], None],
) -> None:
    """Serve `models` until a signal says stop; returns after draining and unloading."""
    raise NotImplementedError
