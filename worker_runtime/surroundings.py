"""What all models of one worker share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker_runtime.catalog import ModelEntry
from worker_runtime.clock import Clock
from worker_runtime.engine_process.interface import Launcher
from worker_runtime.ladder import Ladder, OnMeasured
from worker_runtime.memory.admission import MemoryAdmission
from worker_runtime.memory.probe import MemoryProbe
from worker_runtime.policy import LifecyclePolicy


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
    admission: MemoryAdmission
    ladder: Ladder
    on_measured: OnMeasured
    instead: Callable[[ModelEntry], Sequence[str]]
