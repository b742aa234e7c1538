"""The Worker service: lists models and their states, loads and unloads them by hand."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from common.packages import version_of
from protos.y26hkx.v1 import worker_pb2, worker_pb2_grpc
from worker_runtime.aio import first_of
from worker_runtime.catalog import Capability
from worker_runtime.lifecycle.manager import Models
from worker_runtime.rpc.keep_alive import keep_alive_of
from worker_runtime.rpc.status_messages import CAPABILITIES, memory_message, model_message

LEAST_INTERVAL_S, MOST_INTERVAL_S = 0.1, 60.0
DEFAULT_INTERVAL_S = 1.0
# A change is sent at once. Those that follow it within this time go together.
TOGETHER_S = 0.05
# A status is sent this often even without a change, because uptime and memory go on.
HEARTBEAT_S = 10.0
# Smaller changes of memory do not trigger a status.
MEMORY_STEP_BYTES = 16 << 20

_Context = grpc.aio.ServicerContext[Any, Any]


class WorkerServicer(worker_pb2_grpc.WorkerServiceServicer):
    """The servicer of `WorkerService`, the same for all workers.

    Args:
        draining: set when the worker begins to shut down.
    """

    def __init__(self, models: Models, capability: Capability, draining: asyncio.Event) -> None:
        self._models = models
        self._capability = capability
        self._draining = draining
        self._host = socket.gethostname()
        self._worker_id = uuid.uuid4().hex[:12]
        self._version = version_of("y26hkx", missing="unknown")
        self._started_s = models.clock.monotonic()

    async def ListModels(  # noqa: N802 - gRPC's name
        self, request: worker_pb2.ListModelsRequest, context: _Context
    ) -> worker_pb2.ListModelsResponse:
        return worker_pb2.ListModelsResponse(models=map(model_message, self._models.snapshot()))

    async def WatchStatus(  # noqa: N802
        self, request: worker_pb2.WatchStatusRequest, context: _Context
    ) -> AsyncIterator[worker_pb2.WorkerStatus]:
        asked_s = request.interval_s if request.HasField("interval_s") else DEFAULT_INTERVAL_S
        # max() first: NaN becomes the least interval.
        interval_s = min(max(LEAST_INTERVAL_S, asked_s), MOST_INTERVAL_S)
        clock, sent, sent_at_s = self._models.clock, b"", float("-inf")
        changes, has_changed = self._models.changes, False
        while True:
            n_seen, status = changes.count, self.status()
            news = _what_matters(status)
            if news != sent or clock.monotonic() - sent_at_s >= HEARTBEAT_S:
                yield status
                sent, sent_at_s = news, clock.monotonic()
            if has_changed:
                await clock.sleep(TOGETHER_S)
            await first_of(changes.after(n_seen), clock.sleep(interval_s))
            has_changed = changes.count > n_seen

    async def LoadModel(  # noqa: N802
        self, request: worker_pb2.LoadModelRequest, context: _Context
    ) -> AsyncIterator[worker_pb2.LoadProgress]:
        # Only the latest progress is kept; a slow reader misses what came before.
        latest: asyncio.Queue[tuple[float, str]] = asyncio.Queue(maxsize=1)

        def on_progress(fraction: float, stage: str) -> None:
            if latest.full():
                latest.get_nowait()
            latest.put_nowait((fraction, stage))

        keep_alive_s = keep_alive_of(request)
        loading = asyncio.create_task(
            self._models.load(
                request.model,
                on_progress,
                keep_alive_s=keep_alive_s,
                n_ctx=request.context_length if request.HasField("context_length") else None,
                force=request.force,
            )
        )
        try:
            while not loading.done():
                progress = await first_of(latest.get(), asyncio.wait({loading}))
                if progress is not None:
                    fraction, stage = progress
                    state = worker_pb2.MODEL_STATE_QUEUED
                    if stage != "queue":
                        state = worker_pb2.MODEL_STATE_LOADING
                    yield worker_pb2.LoadProgress(state=state, fraction=fraction, stage=stage)
            await loading
        finally:
            loading.cancel()
            await asyncio.wait({loading})
        yield worker_pb2.LoadProgress(state=worker_pb2.MODEL_STATE_READY, fraction=1.0)

    async def UnloadModel(  # noqa: N802
        self, request: worker_pb2.UnloadModelRequest, context: _Context
    ) -> worker_pb2.UnloadModelResponse:
        freed = await self._models.unload(request.model, force=request.force)
        return worker_pb2.UnloadModelResponse(
            freed_bytes=freed.resident_bytes,
            regained_bytes=freed.regained_bytes,
            n_running=freed.n_running,
        )

    async def RescanModels(  # noqa: N802
        self, request: worker_pb2.RescanModelsRequest, context: _Context
    ) -> worker_pb2.RescanModelsResponse:
        found = map(model_message, await self._models.rescan())
        return worker_pb2.RescanModelsResponse(models=found, ttl_s=self._models.catalog.ttl_s)

    def status(self) -> worker_pb2.WorkerStatus:
        snapshots = self._models.snapshot()
        reading = self._models.memory(snapshots)
        return worker_pb2.WorkerStatus(
            worker_id=self._worker_id,
            host=self._host,
            capability=CAPABILITIES[self._capability],
            models=map(model_message, snapshots),
            memory=memory_message(reading, self._models.holdings(reading.machine)),
            queue_depth=sum(s.n_waiting for s in snapshots),
            n_active=sum(s.n_leases for s in snapshots),
            draining=self._draining.is_set(),
            version=self._version,
            uptime_s=self._models.clock.monotonic() - self._started_s,
        )


def _what_matters(status: worker_pb2.WorkerStatus) -> bytes:
    """`status` without the fields that change all the time, to compare two of them."""
    calm = worker_pb2.WorkerStatus()
    calm.CopyFrom(status)
    calm.ClearField("uptime_s")
    memory = calm.memory
    memory.available_bytes //= MEMORY_STEP_BYTES
    memory.worker_resident_bytes //= MEMORY_STEP_BYTES
    memory.engines_resident_bytes //= MEMORY_STEP_BYTES
    memory.anonymous_bytes //= MEMORY_STEP_BYTES
    memory.mapped_bytes //= MEMORY_STEP_BYTES
    memory.pressure_some = memory.pressure_full = 0
    for model in calm.models:
        model.ClearField("idle_s")
        model.ClearField("retry_after_s")
        model.ClearField("expires_in_s")
        model.resident_bytes //= MEMORY_STEP_BYTES
        model.memory.anonymous_bytes //= MEMORY_STEP_BYTES
        model.memory.mapped_bytes //= MEMORY_STEP_BYTES
        model.memory.peak_bytes //= MEMORY_STEP_BYTES
    return calm.SerializeToString(deterministic=True)
