"""What all models of one worker share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker_runtime.catalog import ModelEntry
from worker_runtime.clock import Clock
from worker_runtime.kernel_memory import Kernels
from worker_runtime.ladder import OnMeasured, Ways
from worker_runtime.launcher import Launcher
from worker_runtime.memory.probe import MemoryProbe
from worker_runtime.policy import LifecyclePolicy
from worker_runtime.scheduler import Scheduler


@dataclass(frozen=True)
class Surroundings:
    """
    Args:
        instead: ids of models that may be named where one does not fit.
    """

    policy: LifecyclePolicy
    launcher: Launcher
    clock: Clock
    probe: MemoryProbe
    scheduler: Scheduler
    ways: Ways
    on_measured: OnMeasured
    kernels: Kernels
    instead: Callable[[ModelEntry], Sequence[str]]
