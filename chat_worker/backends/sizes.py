"""How large a context, a KV cache and a thread pool a model gets; the same for every backend."""

import os

import psutil

from chat_worker.messages import LoadSpec

DEFAULT_CTX = 4096
CELL_MULTIPLE = 256  # llama.cpp rounds a context up to this
TINY_MODEL_BYTES = 64 * 1024 * 1024


def context_tokens(spec: LoadSpec, n_ctx_train: int) -> int:
    """Context of one request; `n_ctx_train` is 0 if the model does not say."""
    wanted = spec.n_ctx or min(n_ctx_train or DEFAULT_CTX, DEFAULT_CTX)
    return min(wanted, n_ctx_train) if n_ctx_train > 0 else wanted


def n_cells(spec: LoadSpec, n_ctx: int) -> int:
    """Cells of the whole cache: a full context for each parallel request, within the cap.

    Admission goes by what requests really use, so that a capped cache serves many short ones.
    """
    wanted = spec.n_cells or min(n_ctx * spec.n_parallel, max(spec.max_cells, n_ctx))
    return -(-max(wanted, n_ctx) // CELL_MULTIPLE) * CELL_MULTIPLE


def n_threads(spec: LoadSpec, model_bytes: int) -> int:
    """What was set, else the physical cores that this process may use.

    A tiny model runs on one: its threads would do little but wait for each other, and on a busy
    machine each of these waits is as long as another process's time slice.
    """
    if not spec.n_threads and model_bytes < TINY_MODEL_BYTES:
        return 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    physical = psutil.cpu_count(logical=False) or usable or 1
    return spec.n_threads or min(physical, usable or physical)
