"""The size of a model's context and KV cache; the same for every backend."""

from chat_worker.pipe_messages import LoadSpec

DEFAULT_CTX = 4096
CELL_MULTIPLE = 256  # llama.cpp rounds a context up to this


def context_tokens(spec: LoadSpec, n_ctx_train: int) -> int:
    """The context of one request; `n_ctx_train` is 0 if the model does not state it."""
    wanted = spec.n_ctx or min(n_ctx_train or DEFAULT_CTX, DEFAULT_CTX)
    return min(wanted, n_ctx_train) if n_ctx_train > 0 else wanted


def n_cells(spec: LoadSpec, n_ctx: int) -> int:
    """The cells of the whole cache: a full context for each parallel request, within the limit.

    Requests are admitted by the cells that they really use, so a limited cache serves many short
    requests.
    """
    wanted = spec.n_cells or min(n_ctx * spec.n_parallel, max(spec.max_cells, n_ctx))
    return -(-max(wanted, n_ctx) // CELL_MULTIPLE) * CELL_MULTIPLE
