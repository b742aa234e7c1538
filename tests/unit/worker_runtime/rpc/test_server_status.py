"""What a worker's server tells of its models: in its status, its lists and on its metrics page."""

import grpc
import httpx
import pytest

from protos.y26hkx.v1 import worker_pb2
from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.rpc.running_server import (
    POSIX_ONLY,
    refusal,
    watch_with_rare_beats,
    worker,
)
from tests.unit.worker_runtime.stub_engine import StubSpec

pytestmark = pytest.mark.timeout(60)


@POSIX_ONLY
async def test_status_tells_at_once_of_load_and_unload_and_of_new_models() -> None:
    async with worker(StubSpec(steps=3, step_s=0.1)) as made:
        watch = watch_with_rare_beats(made)

        async def until(state: worker_pb2.ModelState.ValueType) -> worker_pb2.Model:
            while True:
                status = await watch.read()
                assert status.capability == worker_pb2.CAPABILITY_CHAT
                assert status.memory.total_bytes > status.memory.available_bytes > 0
                model: worker_pb2.Model = next(m for m in status.models if m.id == "stub")
                if model.state == state:
                    return model

        assert (await until(worker_pb2.MODEL_STATE_UNLOADED)).is_default
        load = worker_pb2.LoadModelRequest(model="")
        progress = [p async for p in made.control.LoadModel(load, metadata=made.metadata)]
        assert progress[-1].state == worker_pb2.MODEL_STATE_READY
        assert any(p.stage.startswith("step") for p in progress)
        ready = await until(worker_pb2.MODEL_STATE_READY)
        assert ready.pid > 0
        assert ready.resident_bytes > 0
        assert ready.counters.loads == 1
        unload = worker_pb2.UnloadModelRequest(model="stub")
        reply = await made.control.UnloadModel(unload, metadata=made.metadata)
        assert reply.freed_bytes > 0
        unloaded = await until(worker_pb2.MODEL_STATE_UNLOADED)
        assert unloaded.freed_bytes == reply.freed_bytes
        made.entries.append(entry("new"))
        await made.control.RescanModels(worker_pb2.RescanModelsRequest(), metadata=made.metadata)
        while "new" not in {model.id for model in (await watch.read()).models}:
            pass
        watch.cancel()


@POSIX_ONLY
async def test_broken_models_are_listed_with_their_reason() -> None:
    async with worker() as made:
        for reply in (
            await made.control.ListModels(worker_pb2.ListModelsRequest(), metadata=made.metadata),
            await made.control.RescanModels(
                worker_pb2.RescanModelsRequest(), metadata=made.metadata
            ),
        ):
            broken = next(m for m in reply.models if m.id == "broken")
            assert broken.state == worker_pb2.MODEL_STATE_FAILED
            assert broken.failure == "its header is truncated"
        load = worker_pb2.LoadModelRequest(model="broken")
        call = made.control.LoadModel(load, metadata=made.metadata)
        refused = await refusal(call.read)
        assert refused.code() is grpc.StatusCode.FAILED_PRECONDITION


@POSIX_ONLY
async def test_the_metrics_page_shows_the_models(unused_tcp_port: int) -> None:
    async with worker(metrics_port=unused_tcp_port) as made:
        await made.models.load("stub")
        async with httpx.AsyncClient(trust_env=False) as client:
            page = (await client.get(f"http://127.0.0.1:{unused_tcp_port}/metrics")).text
        assert 'y26hkx_model_loads_total{model="stub"} 1.0' in page
        assert 'y26hkx_model_loaded{model="broken"} 0.0' in page
        assert 'y26hkx_model_mapped_bytes{model="stub"}' in page
        assert "\ny26hkx_available_memory_bytes " in page
