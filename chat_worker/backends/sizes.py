"""The size of a model's context and KV cache; the same for every backend."""

from chat_worker.pipe_messages import LoadSpec

DEFAULT_CTX = 4096
CELL_MULTIPLE = 256  # llama.cpp rounds a context up to this
# From this count on, llama.cpp's slots get cells of their own if there are enough cells: then
# attention reads only the cells of its sequence, and there are enough slots for prefixes.
MIN_OWN_SLOTS = 4
BLOCK_TOKENS = 32  # the only size of a block for which OpenVINO's CPU plugin has kernels


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


def in_one_pool(n_parallel: int, n_ctx: int, cells: int) -> bool:
    """Whether llama.cpp's slots share the cells, over all of which attention goes then."""
    return n_parallel < MIN_OWN_SLOTS or cells < n_parallel * n_ctx


def n_paged_slots(n_parallel: int) -> int:
    """The slots of a paged cache: a prefix that waits in one costs no time, only its blocks."""
    return 2 * n_parallel + 4


def n_blocks(n_cells: int, n_slots: int) -> int:
    """The blocks of a paged cache that suffice for `n_cells` different tokens in `n_slots` slots.

    Each slot may waste less than a block at its end, and less than another where it left the slot
    that it was forked from: there it has copies of tokens that the other slot holds too.
    """
    return -(-n_cells // BLOCK_TOKENS) + 2 * n_slots


def step_tokens(spec: LoadSpec) -> int:
    """The tokens of one step of a backend that computes them all at once: more would need larger
    buffers, and cost as much for each."""
    return min(spec.n_batch, spec.n_ubatch)
