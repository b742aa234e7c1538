"""Loads the model of a GGUF file with llama.cpp, for chat and embeddings."""

import contextlib
import ctypes
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from worker_runtime.memory.prefault import prefaulted
from worker_runtime.weight_buffers import Buffers, fastest_buffers

LOAD_MODE_NONE = 0  # LLAMA_LOAD_MODE_NONE, which the binding mentions only in a comment


def load_model(
    native: Any,
    path: Path,
    on_progress: Callable[[float], None],
    *,
    extra_buffers: bool,
    products: Mapping[int, float],
    vocab_only: bool = False,
) -> Any:
    """A file's model; a null pointer if llama.cpp refuses it (see `recent_errors`).

    It is read into memory on a CPU, mapped where a GPU takes the weights. In a mapped file,
    matrices that llama.cpp reorders for the processor would be in memory twice, and the others
    would be in small pages (see `HUGE_PAGES` in settings.py).

    Args:
        on_progress: receives the share that is loaded.
        extra_buffers: whether that reordering may be used.
        products: with each matrix in future work: how many there are, by their number of tokens.
        vocab_only: without the weights.
    """
    params = native.llama_model_default_params()
    params.vocab_only = vocab_only
    reads = not native.llama_supports_gpu_offload()
    if reads:
        params.load_mode = LOAD_MODE_NONE
    buffers = Buffers(extra_buffers)
    if reads and extra_buffers and not vocab_only:
        buffers = fastest_buffers(path, products)
    params.use_extra_bufts = buffers.extra
    if buffers.overrides:
        params.tensor_buft_overrides = ctypes.addressof(buffers.overrides)
    with prefaulted() if reads else contextlib.nullcontext(lambda: None) as prefault:

        def progress(fraction: float, _user: Any) -> bool:
            prefault()
            on_progress(fraction)
            return True

        params.progress_callback = native.llama_progress_callback(progress)
        return native.llama_model_load_from_file(os.fsencode(path), params)
