"""Runs the embedding worker: `python -m embed_worker`, configured by the environment."""

import asyncio

from common.freed_memory import use_one_arena
from common.settings import read_or_exit
from embed_worker.discovery import EmbedModelScan
from embed_worker.encoder_choice import EncoderChoice
from embed_worker.memory_estimate import load_options
from embed_worker.servicer import EmbedServicer
from embed_worker.settings import EmbedSettings
from protos.y26hkx.v1.embed_pb2_grpc import add_EmbedServiceServicer_to_server
from worker_runtime.catalog import Catalog
from worker_runtime.clock import SystemClock
from worker_runtime.model_files.models_toml import FILE as MODELS_TOML
from worker_runtime.rpc.inflight import InflightRpcs
from worker_runtime.rpc.server import local_models, serve


async def run(settings: EmbedSettings) -> None:
    catalog = Catalog(
        EmbedModelScan(settings),
        ttl_s=settings.scan_ttl_s,
        clock=SystemClock(),
        watched=settings.models_dir / MODELS_TOML,
    )
    encoder_choice = EncoderChoice(catalog, fallback_to_default=settings.fallback_to_default)
    async with local_models(settings, catalog, load_options) as models:
        inflight_rpcs = InflightRpcs()
        servicer = EmbedServicer(
            models, encoder_choice, inflight_rpcs, max_inputs=settings.max_inputs
        )
        await serve(
            settings=settings,
            capability="embed",
            models=models,
            add_service=lambda server: add_EmbedServiceServicer_to_server(servicer, server),
            preload=settings.preload,
            inflight_rpcs=inflight_rpcs,
        )


def main() -> None:
    use_one_arena()
    asyncio.run(run(read_or_exit(EmbedSettings, "embedding worker")))


if __name__ == "__main__":
    main()
