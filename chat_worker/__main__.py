"""Runs the chat worker: `python -m chat_worker`, configured by the environment."""

import asyncio

from chat_worker.backend_trials import trials_while_idle
from chat_worker.discovery import ENGINE_MODULE, ChatModelScan
from chat_worker.expansion import with_expansion_factors
from chat_worker.load_options import ChatLoadOptions
from chat_worker.servicer import ChatServicer, RequestSlots
from chat_worker.settings import ChatSettings
from common.freed_memory import use_one_arena
from common.settings import read_or_exit
from protos.y26hkx.v1.chat_pb2_grpc import add_ChatServiceServicer_to_server
from worker_runtime.catalog import Catalog
from worker_runtime.clock import SystemClock
from worker_runtime.model_files.models_toml import FILE as MODELS_TOML
from worker_runtime.rpc.inflight import InflightRpcs
from worker_runtime.rpc.server import local_models, serve


async def run(settings: ChatSettings) -> None:
    scan = ChatModelScan(settings)
    catalog = Catalog(
        scan,
        ttl_s=settings.scan_ttl_s,
        clock=SystemClock(),
        watched=settings.models_dir / MODELS_TOML,
    )
    options = ChatLoadOptions(scan, settings)
    load_options = with_expansion_factors(options, settings)
    standby = (ENGINE_MODULE, "llama.cpp") if settings.standby_engine else None
    async with (
        local_models(settings, catalog, load_options, scan.with_context, standby) as models,
        trials_while_idle(models, options, settings.trial_idle_s),
    ):
        inflight_rpcs = InflightRpcs()
        slots = RequestSlots(settings.parallel, settings.max_queue)
        servicer = ChatServicer(models, slots, inflight_rpcs)
        await serve(
            settings=settings,
            capability="chat",
            models=models,
            add_service=lambda server: add_ChatServiceServicer_to_server(servicer, server),
            preload=settings.preload,
            inflight_rpcs=inflight_rpcs,
        )


def main() -> None:
    use_one_arena()
    asyncio.run(run(read_or_exit(ChatSettings, "chat worker")))


if __name__ == "__main__":
    main()
