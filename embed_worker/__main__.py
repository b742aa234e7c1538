"""Runs the embedding worker: `python -m embed_worker`, configured by the environment."""

import asyncio
from collections.abc import Callable

from embed_worker.service import ModelScan
from embed_worker.servicer import EmbedServicer
from embed_worker.settings import EmbedSettings
from protos.errors import ModelNotFound
from protos.y26hkx.v1.embed_pb2_grpc import add_EmbedServiceServicer_to_server
from worker_runtime.catalog import Catalog
from worker_runtime.clock import SystemClock
from worker_runtime.server import local_models, serve


async def run(settings: EmbedSettings) -> None:
    catalog = Catalog(ModelScan(settings), ttl_s=settings.scan_ttl_s, clock=SystemClock())
    served_id = resolver(catalog, fallback_to_default=settings.fallback_to_default)
    async with local_models(settings, catalog) as models:
        servicer = EmbedServicer(models, served_id, max_inputs=settings.max_inputs)
        await serve(
            settings=settings,
            capability="embed",
            models=models,
            add_service=lambda server: add_EmbedServiceServicer_to_server(servicer, server),
            preload=[""] if settings.preload else [],
        )


def resolver(catalog: Catalog, *, fallback_to_default: bool) -> Callable[[str], str]:
    """Which model serves requests for a name: that one, or for unknown names the default."""

    def served_id(model: str) -> str:
        try:
            return catalog.resolve(model).id
        except ModelNotFound:
            if not fallback_to_default:
                raise
            return catalog.resolve("").id

    return served_id


def main() -> None:
    asyncio.run(run(EmbedSettings()))


if __name__ == "__main__":
    main()
