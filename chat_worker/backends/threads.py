"""How many threads a model is computed with; the same for every backend."""

from collections.abc import Callable

from chat_worker.pipe_messages import LoadSpec
from worker_runtime.machine.free_cores import free_cores

TINY_MODEL_BYTES = 64 * 1024 * 1024


def n_threads(spec: LoadSpec, model_bytes: int) -> Callable[[], int]:
    """To be asked before each step: what was set, else the physical cores that are free.

    A tiny model runs on one: its threads would do little but wait for each other, and on a busy
    machine each of these waits is as long as another process's time slice.
    """
    if spec.n_threads:
        return lambda: spec.n_threads
    if model_bytes < TINY_MODEL_BYTES:
        return lambda: 1
    return free_cores()
