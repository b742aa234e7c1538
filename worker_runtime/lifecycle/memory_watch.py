"""Measures the memory of a worker and its models, recycles models that leak, and frees memory that
others need."""

from collections.abc import Iterable
from typing import Never

from worker_runtime.clock import Clock
from worker_runtime.lifecycle.owners import Owners
from worker_runtime.lifecycle.snapshot import ModelSnapshot
from worker_runtime.memory.admission import MemoryAdmission
from worker_runtime.memory.monitor import EngineMemory, MemoryMonitor, MemoryReading

# Also the longest time until another worker gets memory that only idle models hold here.
WATCH_S = 3.0


async def watch_memory(
    owners: Owners, admission: MemoryAdmission, monitor: MemoryMonitor, clock: Clock
) -> Never:
    """While models are loaded: recycle leaking ones and free memory that others need."""
    while True:
        await admission.until_in_use()
        await clock.sleep(WATCH_S)
        reading = measured(monitor, owners.snapshot())
        for owner in owners:
            if owner.pid in reading.leaking_pids:
                owner.recycle()
        admission.give_back()


def measured(monitor: MemoryMonitor, snapshots: Iterable[ModelSnapshot]) -> MemoryReading:
    """The memory of this worker and of the models' engine processes."""
    return monitor.reading(_engine_memory(s) for s in snapshots if s.pid)


def _engine_memory(snapshot: ModelSnapshot) -> EngineMemory:
    return EngineMemory(
        snapshot.pid,
        snapshot.memory.anonymous_bytes,
        snapshot.memory.mapped_bytes,
        is_idle=snapshot.n_leases == 0,
        n_requests=snapshot.requests_of_load,
    )
