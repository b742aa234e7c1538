"""Converts snapshots to protobuf messages; no other module knows both.

Fields with the same name on both sides are copied by name and not listed here.
"""

from typing import Any

import msgspec
from google.protobuf.message import Message

from protos.y26hkx.v1 import worker_pb2
from worker_runtime.cache_counts import IN_PROCESS
from worker_runtime.catalog import Capability
from worker_runtime.lifecycle.snapshot import ModelSnapshot, ModelState
from worker_runtime.memory.monitor import MemoryReading
from worker_runtime.memory.need import Need
from worker_runtime.memory.reservation import Holdings
from worker_runtime.model_files.models_toml import ModelOptions

CAPABILITIES: dict[Capability, "worker_pb2.Capability.ValueType"] = {
    "chat": worker_pb2.CAPABILITY_CHAT,
    "embed": worker_pb2.CAPABILITY_EMBED,
}


def state_message(state: ModelState) -> "worker_pb2.ModelState.ValueType":
    return worker_pb2.ModelState.Value(f"MODEL_STATE_{state.name}")


def model_message(snapshot: ModelSnapshot) -> worker_pb2.Model:
    """One model's snapshot as a message."""
    fields = _same_named(worker_pb2.Model, snapshot.entry, snapshot) | {
        "capability": CAPABILITIES[snapshot.entry.capability],
        "state": state_message(snapshot.state),
        "resident_bytes": snapshot.memory.resident_bytes,
        "memory": _model_memory(snapshot),
        "counters": worker_pb2.ModelCounters(
            **_same_named(worker_pb2.ModelCounters, snapshot.counters)
        ),
        "caches": _caches(snapshot),
        "aliases": snapshot.entry.options.aliases,
        "sampling": _sampling(snapshot.entry.options),
        "facts": worker_pb2.ModelFacts(**_same_named(worker_pb2.ModelFacts, snapshot.entry.facts)),
    }
    return worker_pb2.Model(**fields)


def _sampling(options: ModelOptions) -> worker_pb2.SamplingDefaults | None:
    given = _same_named(worker_pb2.SamplingDefaults, options)
    unset = set(given.values()) == {None}
    return None if unset else worker_pb2.SamplingDefaults(**given)


def _caches(snapshot: ModelSnapshot) -> list[worker_pb2.CacheCounts]:
    return [
        worker_pb2.CacheCounts(
            place=place,
            hits=counts.hits,
            misses=counts.misses,
            evictions=counts.evictions,
            bytes=counts.n_bytes if snapshot.pid or place != IN_PROCESS else 0,
            entries=counts.n_entries if snapshot.pid or place != IN_PROCESS else 0,
        )
        for place, counts in snapshot.counters.caches.items()
    ]


def _model_memory(snapshot: ModelSnapshot) -> worker_pb2.ModelMemory:
    need = snapshot.need or Need()
    return worker_pb2.ModelMemory(
        **_same_named(worker_pb2.ModelMemory, snapshot, snapshot.memory),
        # The estimated peak, to be compared with `peak_bytes`.
        estimated_bytes=need.peak,
        weights_bytes=need.weights,
        kv_bytes=need.kv,
        compute_bytes=need.compute,
        caches_bytes=need.caches,
    )


def memory_message(reading: MemoryReading, holdings: Holdings) -> worker_pb2.Memory:
    """A worker's memory as a message."""
    return worker_pb2.Memory(
        **_same_named(worker_pb2.Memory, reading.machine, reading, holdings),
        worker_resident_bytes=reading.worker_bytes,
        engines_resident_bytes=reading.engines_bytes,
        leak_detected=reading.leak_detected,
        pressure_some=reading.stalled_some,
        pressure_full=reading.stalled_full,
    )


def _same_named(kind: type[Message], *sources: msgspec.Struct) -> dict[str, Any]:
    """The sources' fields that the message has, by name; None leaves a field unset."""
    known = kind.DESCRIPTOR.fields_by_name
    return {
        name: getattr(source, name)
        for source in sources
        for name in source.__struct_fields__
        if name in known
    }
