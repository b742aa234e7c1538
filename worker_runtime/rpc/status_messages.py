"""Snapshots as protobuf messages: the only place where the two meet."""

from protos.y26hkx.v1 import worker_pb2
from worker_runtime.cache_counts import IN_PROCESS
from worker_runtime.catalog import Capability
from worker_runtime.lifecycle.snapshot import ModelSnapshot, ModelState
from worker_runtime.memory.monitor import MemoryReading
from worker_runtime.memory.need import Need
from worker_runtime.memory.reservation import Holdings

CAPABILITIES: dict[Capability, "worker_pb2.Capability.ValueType"] = {
    "chat": worker_pb2.CAPABILITY_CHAT,
    "embed": worker_pb2.CAPABILITY_EMBED,
}


def state_message(state: ModelState) -> "worker_pb2.ModelState.ValueType":
    return worker_pb2.ModelState.Value(f"MODEL_STATE_{state.name}")


def model_message(snapshot: ModelSnapshot) -> worker_pb2.Model:
    entry, counters = snapshot.entry, snapshot.counters
    return worker_pb2.Model(
        id=entry.id,
        capability=CAPABILITIES[entry.capability],
        backend=entry.backend,
        state=state_message(snapshot.state),
        is_default=snapshot.is_default,
        size_bytes=entry.size_bytes,
        context_length=entry.context_length,
        loaded_at_s=snapshot.loaded_at_s,
        idle_s=snapshot.idle_s,
        n_leases=snapshot.n_leases,
        n_waiting=snapshot.n_waiting,
        resident_bytes=snapshot.memory.resident_bytes,
        memory=_model_memory(snapshot),
        load_fraction=snapshot.load_fraction,
        failure=snapshot.failure,
        retry_after_s=snapshot.retry_after_s,
        created_s=entry.created_s,
        pid=snapshot.pid,
        freed_bytes=snapshot.freed_bytes,
        pinned=snapshot.pinned,
        expires_in_s=snapshot.expires_in_s,
        load_stage=snapshot.load_stage,
        reductions=snapshot.reductions,
        served_by=snapshot.served_by,
        counters=worker_pb2.ModelCounters(
            loads=counters.loads,
            load_failures=counters.load_failures,
            load_seconds_sum=counters.load_seconds_sum,
            crashes=counters.crashes,
            unloads=counters.unloads,
            requests=counters.requests,
            prompt_tokens=counters.prompt_tokens,
            cached_tokens=counters.cached_tokens,
            completion_tokens=counters.completion_tokens,
            busy_seconds_sum=counters.busy_seconds_sum,
        ),
        caches=_caches(snapshot),
    )


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
    held, need = snapshot.memory, snapshot.need or Need()
    return worker_pb2.ModelMemory(
        # At the most, as `peak_bytes` is.
        estimated_bytes=need.peak,
        booked_bytes=snapshot.booked_bytes,
        anonymous_bytes=held.anonymous_bytes,
        mapped_bytes=held.mapped_bytes,
        peak_bytes=held.peak_bytes,
        weights_bytes=need.weights,
        kv_bytes=need.kv,
        compute_bytes=need.compute,
        caches_bytes=need.caches,
    )


def memory_message(reading: MemoryReading, holdings: Holdings) -> worker_pb2.Memory:
    return worker_pb2.Memory(
        total_bytes=reading.machine.total_bytes,
        available_bytes=reading.machine.available_bytes,
        worker_resident_bytes=reading.worker_bytes,
        engines_resident_bytes=reading.engines_bytes,
        trend=reading.trend,
        leak_detected=reading.leak_detected,
        booked_bytes=holdings.booked_bytes,
        limit_bytes=holdings.limit_bytes or 0,
        others_booked_bytes=holdings.others_booked_bytes,
        headroom_bytes=holdings.headroom_bytes,
        anonymous_bytes=reading.anonymous_bytes,
        mapped_bytes=reading.mapped_bytes,
        pressure=reading.pressure,
        pressure_some=reading.stalled_some,
        pressure_full=reading.stalled_full,
    )
