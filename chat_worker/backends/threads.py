"""The number of threads that a model uses; the same for every backend."""

from collections.abc import Callable

from chat_worker.pipe_messages import LoadSpec
from worker_runtime.machine.free_cores import thread_count

TINY_MODEL_BYTES = 64 * 1024 * 1024


def n_threads(spec: LoadSpec, model_bytes: int) -> Callable[[], int]:
    """The number of threads, evaluated before each step: as configured, else the free physical
    cores.

    A tiny model uses one thread: several threads would mostly wait for each other, and on a busy
    machine each wait lasts as long as another process's time slice.
    """
    is_tiny = not spec.n_threads and model_bytes < TINY_MODEL_BYTES
    return thread_count(1 if is_tiny else spec.n_threads)
