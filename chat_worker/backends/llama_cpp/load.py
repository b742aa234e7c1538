"""Loads a GGUF into a `Backend`, and says in our words why it could not."""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chat_worker.backend import Backend
from chat_worker.backends.llama_cpp.context import LlamaContext
from chat_worker.backends.llama_cpp.runner import LlamaRunner
from chat_worker.backends.llama_cpp.slot_files import LlamaSlotFiles
from chat_worker.backends.llama_cpp.tokenizer import LlamaTokenizer
from chat_worker.backends.sizes import context_tokens, n_cells
from chat_worker.backends.threads import n_threads
from chat_worker.engine.runner import Limits
from chat_worker.pipe_messages import Facts, LoadSpec
from common.errors import BackendLoadFailed
from worker_runtime.engine_process.load_errors import out_of_memory
from worker_runtime.llama_native import load_native, model_params, recent_errors
from worker_runtime.memory.oom_signs import shortage_in_text

NAME = "llama.cpp"
# Kept beyond the running ones, for prefixes. All prompts attend over the cells of all of them.
N_SPARE_SLOTS = 4
# From so many on, slots get cells of their own where there are enough: attention looks at those of
# its sequence only, and there are slots to keep prefixes in.
MIN_OWN_SLOTS = 4
N_SPARE_ROWS = 60  # logits rows beyond the running ones, for scoring prompts
ATTENTION_TILE_TOKENS = 64  # ggml_fa_tile_config::Q; for caches in f16 on processors


def load(spec: LoadSpec, on_progress: Callable[[float], None]) -> Backend:
    """Load the file with its KV cache.

    Raises:
        BackendLoadFailed: the file is damaged or unknown to llama.cpp, memory is short, or
            llama-cpp-python is missing.
    """
    native = _native()
    model = _model(native, spec, on_progress)
    n_ctx = context_tokens(spec, int(native.llama_model_n_ctx_train(model)))
    is_recurrent = native.llama_model_is_recurrent(model) or native.llama_model_is_hybrid(model)
    cells = n_cells(spec, n_ctx)
    shares = is_recurrent or spec.n_parallel < MIN_OWN_SLOTS or cells < spec.n_parallel * n_ctx
    n_slots = spec.n_parallel + (N_SPARE_SLOTS if shares and not is_recurrent else 0)
    n_rows = spec.n_parallel + N_SPARE_ROWS
    threads = n_threads(spec, int(native.llama_model_size(model)))
    context = _context(native, model, spec, cells, n_slots, n_rows, threads(), shares=shares)
    tokenizer = LlamaTokenizer(native, model)
    n_tile = _tile(native, spec)
    limits = Limits(
        n_parallel=spec.n_parallel,
        n_slots=n_slots,
        n_cells=int(native.llama_n_ctx(context.handle)),
        n_ctx=n_ctx,
        n_batch=int(native.llama_n_batch(context.handle)),
        n_rows=n_rows,
        n_vocab=tokenizer.n_vocab,
        can_truncate=not is_recurrent,
        shares_cells=shares,
        n_together=int(native.llama_n_ubatch(context.handle)) if n_tile and not shares else 0,
    )
    template = _template(native, model)
    facts = Facts(
        backend=NAME,
        n_ctx=n_ctx,
        n_ctx_train=int(native.llama_model_n_ctx_train(model)),
        n_vocab=tokenizer.n_vocab,
        n_parallel=spec.n_parallel,
        n_cells=limits.n_cells,
        has_template=template is not None,
        description=_description(native, model),
    )
    runner = LlamaRunner(native, model, context, limits, threads, n_tile)
    return Backend(runner, tokenizer, template, facts, LlamaSlotFiles(native, context))


def _native() -> Any:
    try:
        return load_native()
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendLoadFailed(
            "llama-cpp-python is missing or does not run on this machine",
            suggestions=("install it: pip install 'y26hkx[llama]'",),
            metadata={"backend": NAME},
        ) from error


def _model(native: Any, spec: LoadSpec, on_progress: Callable[[float], None]) -> Any:
    if not Path(spec.path).is_file():
        raise BackendLoadFailed(
            f"the file of model {spec.model_id} is gone", metadata={"backend": NAME}
        )

    def progress(fraction: float, _user: Any) -> bool:
        on_progress(fraction)
        return True

    params = model_params(native)
    params.progress_callback = native.llama_progress_callback(progress)
    model = native.llama_model_load_from_file(os.fsencode(spec.path), params)
    if not model:
        raise _failure(
            f"the file of model {spec.model_id} is damaged, incomplete, "
            "or of a kind that this llama.cpp does not know",
            ("download the file again", "update llama-cpp-python"),
        )
    if native.llama_model_has_encoder(model) or not native.llama_model_has_decoder(model):
        native.llama_model_free(model)
        raise BackendLoadFailed(
            f"model {spec.model_id} does not generate text", metadata={"backend": NAME}
        )
    return model


def _context(
    native: Any,
    model: Any,
    spec: LoadSpec,
    cells: int,
    n_slots: int,
    n_rows: int,
    n_threads: int,
    *,
    shares: bool,
) -> LlamaContext:
    params = native.llama_context_default_params()
    params.n_ctx = cells
    params.n_batch = min(spec.n_batch, cells)
    params.n_ubatch = min(spec.n_ubatch, params.n_batch)
    params.n_seq_max = n_slots
    # Without this bound, buffers are sized for logits of every token of a batch.
    params.n_outputs_max = n_rows
    params.n_outputs_max_per_seq = n_rows
    params.n_threads = params.n_threads_batch = n_threads
    if spec.kv_type == "q8_0":
        params.type_k = params.type_v = native.GGML_TYPE_Q8_0
        # llama.cpp reads quantized values in its flash attention only.
        params.flash_attn_type = native.LLAMA_FLASH_ATTN_TYPE_ENABLED
    # In one pool slots share prefixes, and short requests leave room to long ones.
    params.kv_unified = shares
    handle = native.llama_init_from_model(model, params)
    if not handle:
        native.llama_model_free(model)
        raise _failure(f"the context of model {spec.model_id} could not be made", ())
    return LlamaContext(native, model, params, handle)


def _tile(native: Any, spec: LoadSpec) -> int:
    if spec.kv_type == "q8_0" or native.llama_supports_gpu_offload():
        return 0
    return ATTENTION_TILE_TOKENS


def _failure(message: str, suggestions: tuple[str, ...]) -> BackendLoadFailed:
    if (shortage := shortage_in_text(recent_errors())) is not None:
        return out_of_memory(NAME, shortage)
    return BackendLoadFailed(message, suggestions=suggestions, metadata={"backend": NAME})


def _template(native: Any, model: Any) -> str | None:
    source = native.llama_model_chat_template(model, None)
    return source.decode("utf-8", "replace") if source else None


def _description(native: Any, model: Any) -> str:
    buffer = ctypes.create_string_buffer(256)
    native.llama_model_desc(model, buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace")
