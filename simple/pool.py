"""The chat worker of this process, as the gateway's pool with one endpoint."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chat_worker.backend_trials import trials_while_idle
from chat_worker.discovery import ChatModelScan
from chat_worker.expansion import with_expansion_factors
from chat_worker.load_options import ChatLoadOptions
from chat_worker.servicer import ChatServicer, RequestSlots
from chat_worker.settings import ChatSettings
from gateway.pool import Pool
from gateway.pool.endpoint import Endpoint
from gateway.pool.workers import Workers
from protos.y26hkx.v1 import worker_pb2
from simple.calls import LocalStub
from worker_runtime.catalog import Catalog
from worker_runtime.clock import SystemClock
from worker_runtime.lifecycle.preload import load_unasked
from worker_runtime.model_files.models_toml import FILE as MODELS_TOML
from worker_runtime.rpc.inflight import InflightRpcs
from worker_runtime.rpc.server import local_models
from worker_runtime.rpc.worker_service import WorkerServicer

ADDRESS = "in-process"


class LocalPool(Pool):
    """The pool of the simple server: its own chat worker and no embedding worker."""

    def __init__(self, settings: ChatSettings) -> None:
        super().__init__([], [], "")
        self.chat = self._local = LocalWorkers(settings)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        async with self._local.running(), super().watching():
            yield


class LocalWorkers(Workers):
    """One worker, which lives as long as `running` is entered."""

    def __init__(self, settings: ChatSettings) -> None:
        super().__init__([ADDRESS], "")
        self._settings = settings
        self._scan = ChatModelScan(settings)
        self._catalog = Catalog(
            self._scan,
            ttl_s=settings.scan_ttl_s,
            clock=SystemClock(),
            watched=settings.models_dir / MODELS_TOML,
        )
        self._endpoint = Endpoint(ADDRESS)

    @property
    def endpoints(self) -> list[Endpoint]:
        return [self._endpoint]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        settings, endpoint = self._settings, self._endpoint
        options = ChatLoadOptions(self._scan, settings)
        load_options = with_expansion_factors(options, settings)
        async with (
            local_models(settings, self._catalog, load_options, self._scan.with_context) as models,
            trials_while_idle(models, options, settings.trial_idle_s),
        ):
            control = WorkerServicer(models, "chat", asyncio.Event())
            slots = RequestSlots(settings.parallel, settings.max_queue)
            servicer = ChatServicer(models, slots, InflightRpcs())
            endpoint.chat, endpoint.worker = LocalStub(servicer), LocalStub(control)
            endpoint.hear(control.status())
            endpoint.serving = True
            async with asyncio.TaskGroup() as tasks:
                loading = tasks.create_task(
                    load_unasked(models, settings, default=settings.preload)
                )
                try:
                    yield
                finally:
                    endpoint.serving = False
                    loading.cancel()
            await models.close()

    async def watch(self) -> None:
        """Keep the endpoint's status up to date until cancelled."""
        asked = worker_pb2.WatchStatusRequest(interval_s=0.5)
        async for status in self._endpoint.worker.WatchStatus(asked):
            self._endpoint.hear(status)
