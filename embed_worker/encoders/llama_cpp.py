"""llama.cpp: embedding models in one GGUF file, with the pooling that the file states."""

import ctypes
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.error_texts import ErrorText
from common.errors import BackendLoadFailed
from embed_worker.encoders.llama_cpp_pairs import pairs_of, rerank_template
from embed_worker.encoders.llama_cpp_tokens import LlamaTokenization
from embed_worker.encoders.loaded import LoadedEncoder
from embed_worker.encoders.prompts import Prompts
from embed_worker.engine.call import TOKEN_TYPE, Row
from embed_worker.engine.runner import BatchFailed
from embed_worker.engine.vectors import unit
from embed_worker.pipe_messages import MAX_LLAMA_TOKENS
from worker_runtime.engine_process.load_errors import out_of_memory
from worker_runtime.libraries import install_command
from worker_runtime.llama_model import load_model
from worker_runtime.llama_native import load_native, recent_errors
from worker_runtime.machine.free_cores import thread_count
from worker_runtime.memory.oom_signs import shortage_in_text
from worker_runtime.product_timing import PIECE

BACKEND = "llama.cpp"
BATCH_TOKENS = 512
# All products have many tokens, for `weight_buffers.py`.
TEXTS = {PIECE: 1.0}
NO_POOLING, RANKING = 0, 4
POOLINGS = {"mean": 1, "cls": 2, "last": 3}
# Kernels compute four tokens at once, and the remaining ones one by one: five tokens use both.
WARM_UP_TEXT, WARM_UP_TOKENS = "one two three four five", 5


def load(
    path: Path,
    *,
    batch_tokens: int,
    max_rows: int,
    n_threads: int,
    extra_buffers: bool = True,
    pooling: str = "",
    on_progress: Callable[[float, str], None],
) -> LoadedEncoder:
    """Load the model in a file.

    Args:
        pooling: one of `POOLINGS`, in place of what the file states; empty: as it states.
    Raises:
        BackendLoadFailed: llama-cpp-python is missing, or cannot embed with this file.
    """
    try:
        native = load_native()
    except (ImportError, OSError, RuntimeError) as error:
        install = ErrorText("install", command=install_command("llama"))
        raise _failed(ErrorText("llama_missing"), install) from error
    model = load_model(
        native,
        path,
        lambda fraction: on_progress(0.3 + 0.5 * fraction, "reading weights"),
        extra_buffers=extra_buffers,
        products=TEXTS,
    )
    if not model:
        raise _failed(ErrorText("embedding_file_refused"))
    max_tokens = min(int(native.llama_model_n_ctx_train(model)), MAX_LLAMA_TOKENS)
    batch_tokens = batch_tokens or BATCH_TOKENS
    context = _context(native, model, max(batch_tokens, max_tokens), max_rows, pooling)
    ranks = int(native.llama_pooling_type(context)) == RANKING
    runner = (LlamaReranker if ranks else LlamaEncoder)(
        native, model, context, thread_count(n_threads)
    )
    tokens = LlamaTokenization(native, model, max_tokens=max_tokens)
    _warm_up(runner, tokens)
    template = rerank_template(native, model) if ranks else None
    return LoadedEncoder(
        runner=runner,
        tokens=tokens,
        prompts=Prompts({}),
        device="cpu",
        batch_tokens=batch_tokens,
        backend=BACKEND,
        pairs=pairs_of(native, model, tokens, template) if ranks else None,
        # A model with a template answers with a probability.
        activation="sigmoid" if ranks and template is None else "identity",
    )


def _warm_up(runner: "LlamaEncoder", tokens: LlamaTokenization) -> None:
    """Compute once: kernels that fail on this processor fail now, while the model can still be
    loaded in another way."""
    (ids,) = tokens.ids([WARM_UP_TEXT])
    try:
        runner.encode([Row(array(TOKEN_TYPE, ids[:WARM_UP_TOKENS]))])
    except BatchFailed as error:
        raise _failed(ErrorText("does_not_compute")) from error


class LlamaEncoder:
    """Each text of a batch is its own sequence; nothing is padded."""

    def __init__(self, native: Any, model: Any, context: Any, n_threads: Callable[[], int]) -> None:
        self._native = native
        self._n_threads = n_threads
        self._context = context
        self._memory = native.llama_get_memory(context)
        self._n_tokens = int(native.llama_n_batch(context))
        self._n_rows = int(native.llama_n_seq_max(context))
        self._batch = _NativeBatch(native, self._n_tokens)
        self.dimension = int(native.llama_model_n_embd_out(model))

    def encode(self, rows: Sequence[Row]) -> memoryview:
        vectors = np.concatenate([self._run(part) for part in self._parts(rows)])
        if not np.isfinite(vectors).all():
            raise BatchFailed("a vector is not finite")
        return self._finished(vectors).data.cast("B")

    def shed(self) -> None:
        """Nothing to free: the next batch needs buffers of the same size."""

    def _finished(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return unit(vectors)

    def _parts(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """The rows in parts that fit into the context."""
        part: list[Row] = []
        n_tokens = 0
        for row in rows:
            if part and (n_tokens + len(row.ids) > self._n_tokens or len(part) == self._n_rows):
                yield part
                part, n_tokens = [], 0
            part.append(row)
            n_tokens += len(row.ids)
        yield part

    def _run(self, rows: list[Row]) -> NDArray[np.float32]:
        batch = self._batch.filled(rows)
        count = self._n_threads()
        self._native.llama_set_n_threads(self._context, count, count)
        if self._memory:
            self._native.llama_memory_clear(self._memory, False)
            code = self._native.llama_decode(self._context, batch)
        else:
            code = self._native.llama_encode(self._context, batch)
        if code:
            raise BatchFailed(f"llama.cpp returned {code}")
        return np.stack([self._vector(sequence) for sequence in range(len(rows))])

    def _vector(self, sequence: int) -> NDArray[np.float32]:
        pointer = self._native.llama_get_embeddings_seq(self._context, sequence)
        if not pointer:
            raise BatchFailed("llama.cpp has no vector for a text")
        # A copy, because the library writes the next batch over it.
        return np.ctypeslib.as_array(pointer, (self.dimension,)).astype("<f4")


class LlamaReranker(LlamaEncoder):
    """Scores pairs: the vector of a row is its first output."""

    def __init__(self, native: Any, model: Any, context: Any, n_threads: Callable[[], int]) -> None:
        super().__init__(native, model, context, n_threads)
        self.dimension = 1

    def _finished(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors


class _NativeBatch:
    """A `llama_batch` over our own numpy arrays, so that it is filled by slices."""

    def __init__(self, native: Any, capacity: int) -> None:
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._sequences = np.zeros(capacity, np.int32)
        # Each token belongs to one sequence, and is part of its vector.
        self._n_sequences = np.ones(capacity, np.int32)
        self._wanted = np.ones(capacity, np.int8)
        offsets = self._sequences.itemsize * np.arange(capacity, dtype=np.uint64)
        self._addresses = np.uint64(self._sequences.ctypes.data) + offsets

        def pointer(values: NDArray[Any], kind: Any) -> Any:
            return ctypes.cast(values.ctypes.data, ctypes.POINTER(kind))

        self._struct = native.llama_batch()
        self._struct.token = pointer(self._tokens, ctypes.c_int32)
        self._struct.pos = pointer(self._positions, ctypes.c_int32)
        self._struct.n_seq_id = pointer(self._n_sequences, ctypes.c_int32)
        self._struct.seq_id = pointer(self._addresses, ctypes.POINTER(ctypes.c_int32))
        self._struct.logits = pointer(self._wanted, ctypes.c_int8)

    def filled(self, rows: Sequence[Row]) -> Any:
        at = 0
        for sequence, row in enumerate(rows):
            end = at + len(row.ids)
            self._tokens[at:end] = row.ids
            self._positions[at:end] = np.arange(len(row.ids))
            self._sequences[at:end] = sequence
            at = end
        self._struct.n_tokens = at
        return self._struct


def _context(native: Any, model: Any, n_tokens: int, max_rows: int, pooling: str) -> Any:
    params = native.llama_context_default_params()
    params.embeddings = True
    if pooling:
        params.pooling_type = POOLINGS[pooling]
    # A text is never split, because pooling needs all of it at once.
    params.n_ctx = params.n_batch = params.n_ubatch = n_tokens
    params.n_seq_max = min(max_rows, int(native.llama_max_parallel_sequences()))
    params.kv_unified = True
    context = native.llama_init_from_model(model, params)
    if not context:
        raise _failed(ErrorText("embedding_context_not_made"))
    if int(native.llama_pooling_type(context)) == NO_POOLING:
        raise _failed(ErrorText("pooling_unknown"))
    return context


def _failed(message: ErrorText, *suggestions: ErrorText) -> BackendLoadFailed:
    if (shortage := shortage_in_text(recent_errors())) is not None:
        return out_of_memory(BACKEND, shortage)
    return BackendLoadFailed(message, suggestions=suggestions, metadata={"backend": BACKEND})
