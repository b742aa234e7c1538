"""What is known of a model, and of memory, reaches its protobuf message whole."""

import msgspec
from google.protobuf.message import Message

from protos.y26hkx.v1 import worker_pb2
from tests.unit.worker_runtime.entries import entry
from worker_runtime.cache_counts import CacheCounts
from worker_runtime.lifecycle.snapshot import Counters, ModelSnapshot, ModelState
from worker_runtime.memory.monitor import MemoryReading
from worker_runtime.memory.need import Need
from worker_runtime.memory.probe import MachineMemory, ProcessMemory
from worker_runtime.memory.reservation import Holdings
from worker_runtime.model_files.models_toml import ModelOptions
from worker_runtime.rpc.status_messages import memory_message, model_message

COUNTERS = Counters(
    loads=1,
    load_failures=2,
    load_seconds_sum=3.5,
    crashes=4,
    unloads=5,
    requests=6,
    prompt_tokens=7,
    cached_tokens=8,
    completion_tokens=9,
    caches={"disk": CacheCounts(1, 2, 3, 4, 5)},
    busy_seconds_sum=10.5,
)
OPTIONS = ModelOptions(aliases=("gpt-4o",), temperature=0.0)
SNAPSHOT = ModelSnapshot(
    msgspec.structs.replace(entry(), options=OPTIONS, backend_reason="measured"),
    is_default=True,
    state=ModelState.LOADING,
    counters=COUNTERS,
    n_leases=1,
    n_waiting=2,
    load_fraction=0.5,
    load_stage="weights",
    loaded_at_s=3.0,
    idle_s=0.0,
    pid=4,
    memory=ProcessMemory(5, 6, 7),
    need=Need(weights=1, kv=2, compute=3, caches=4, process=5),
    booked_bytes=8,
    failure="why",
    retry_after_s=9.0,
    freed_bytes=0,
    pinned=True,
    expires_in_s=10.0,
    reductions=("less",),
    served_by="b",
    chat_template="own",
)


def left_out(message: Message) -> set[str]:
    """Fields that were not set, or are zero."""
    told = {field.name for field, _ in message.ListFields()}
    return {field.name for field in message.DESCRIPTOR.fields} - told


def test_all_that_is_known_of_a_model_is_told() -> None:
    message = model_message(SNAPSHOT)
    assert [left_out(part) for part in (message, message.memory, message.counters)] == [set()] * 3
    assert left_out(message.caches[0]) == set()
    assert message.sampling.HasField("temperature")
    assert not message.sampling.HasField("top_p")
    assert (message.n_waiting, message.load_stage, message.served_by) == (2, "weights", "b")
    assert message.resident_bytes == message.memory.anonymous_bytes + message.memory.mapped_bytes
    assert (message.memory.booked_bytes, message.memory.estimated_bytes) == (8, 15)


def test_what_is_not_known_of_a_model_is_left_unset() -> None:
    message = model_message(ModelSnapshot(entry(), False, ModelState.UNLOADED, Counters()))
    assert {"idle_s", "retry_after_s", "freed_bytes", "expires_in_s", "pid"} <= left_out(message)
    assert not message.HasField("sampling")
    assert message.state == worker_pb2.MODEL_STATE_UNLOADED


def test_all_that_is_known_of_memory_is_told() -> None:
    reading = MemoryReading(
        machine=MachineMemory(1, 2),
        worker_bytes=3,
        engines_bytes=4,
        anonymous_bytes=5,
        mapped_bytes=6,
        trend="increasing",
        leaking_pids=frozenset({7}),
        pressure="some",
        stalled_some=0.5,
        stalled_full=0.25,
    )
    assert left_out(memory_message(reading, Holdings(8, 9, 10, 11))) == set()
    unlimited = memory_message(reading, Holdings(8, None, 10, 11))
    assert unlimited.limit_bytes == 0
