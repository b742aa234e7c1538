"""Real encoder processes, with the built-in model, for tests."""

import asyncio

from embed_worker.discovery import EmbedModelScan
from embed_worker.library import TORCH
from embed_worker.settings import EmbedSettings
from worker_runtime.catalog import ModelEntry
from worker_runtime.engine_process.client import EngineClient
from worker_runtime.engine_process.launcher import ProcessLauncher
from worker_runtime.memory.probe import SystemMemoryProbe

BOUND_S = 120


def built_in(**chosen: object) -> ModelEntry:
    fields = {"models_dir": "no-such-folder", "cache_enabled": False, "backend": TORCH} | chosen
    settings = EmbedSettings(_env_file=None, **fields)  # type: ignore[arg-type]
    (entry,) = EmbedModelScan(settings)().entries
    return entry


async def started(entry: ModelEntry) -> EngineClient:
    environment = EmbedSettings(_env_file=None).engine_environment
    return await ProcessLauncher(SystemMemoryProbe(), environment).start(entry)


async def loaded(entry: ModelEntry) -> EngineClient:
    engine = await started(entry)
    async with asyncio.timeout(BOUND_S):
        await engine.load(entry.load_spec, lambda fraction, stage: None)
    return engine
