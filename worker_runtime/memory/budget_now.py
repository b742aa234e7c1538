"""The memory for models at this moment, for commands that only look."""

from worker_runtime.machine import Machine
from worker_runtime.memory.budget import (
    MemoryBudget,
    container_headroom_bytes,
    default_headroom_bytes,
)
from worker_runtime.policy import LifecyclePolicy


def budget_now(policy: LifecyclePolicy, machine: Machine) -> MemoryBudget:
    """The memory for models now, if none was loaded."""
    headroom = policy.min_remain_bytes
    if headroom is None:
        limit, total = machine.limit_bytes, machine.total_bytes
        in_container = limit is not None and (total is None or limit < total)
        keep = container_headroom_bytes if in_container else default_headroom_bytes
        headroom = keep(machine.memory_bytes or 0)
    return MemoryBudget(machine.available_bytes, headroom, policy.memory_limit_bytes, claims=())
