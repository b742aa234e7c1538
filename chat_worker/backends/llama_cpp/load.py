"""Loads a GGUF file into a `Backend`, and explains failures in terms of this server."""

import ctypes
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from chat_worker.backend import Backend
from chat_worker.backends.llama_cpp.context import Adapter, LlamaContext
from chat_worker.backends.llama_cpp.runner import LlamaRunner
from chat_worker.backends.llama_cpp.slot_states import LlamaSlotStates
from chat_worker.backends.llama_cpp.tokenizer import LlamaTokenizer
from chat_worker.backends.sizes import context_tokens, in_one_pool, n_cells
from chat_worker.backends.threads import n_threads
from chat_worker.engine.runner import Limits
from chat_worker.pipe_messages import Facts, LoadSpec
from common.error_texts import ErrorText
from common.errors import BackendLoadFailed
from worker_runtime.engine_process.load_errors import out_of_memory
from worker_runtime.libraries import install_command
from worker_runtime.llama_model import load_model
from worker_runtime.llama_native import load_native, recent_errors
from worker_runtime.memory.oom_signs import shortage_in_text
from worker_runtime.model_files.odd_paths import path_of, printable
from worker_runtime.weight_buffers import expected_products

NAME = "llama.cpp"
# Slots besides the running ones, for prefixes. All prompts attend over the cells of all slots.
N_SPARE_SLOTS = 4
N_SPARE_ROWS = 60  # logits rows beyond the running ones, for scoring prompts
# Kernels compute four tokens at once, and the remaining ones one by one: five tokens use both.
WARM_UP_TOKENS = 5
ATTENTION_TILE_TOKENS = 64  # ggml_fa_tile_config::Q; for caches in f16 on processors


def load(
    spec: LoadSpec,
    on_progress: Callable[[float], None],
    seen: Mapping[int, float] = MappingProxyType({}),
) -> Backend:
    """Load the file with its KV cache.

    Args:
        seen: what the model was used for, see `WorkSeen`.
    Raises:
        BackendLoadFailed: the file is damaged or unknown to llama.cpp, memory is short, or
            llama-cpp-python is missing.
    """
    native = _native()
    model = _model(native, spec, on_progress, seen=seen)
    n_ctx = context_tokens(spec, int(native.llama_model_n_ctx_train(model)))
    is_recurrent = native.llama_model_is_recurrent(model) or native.llama_model_is_hybrid(model)
    cells = n_cells(spec, n_ctx)
    shares = is_recurrent or in_one_pool(spec.n_parallel, n_ctx, cells)
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
        splits=bool(n_tile) or not shares,
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
        description=_description(native, model),
    )
    runner = LlamaRunner(native, model, context, limits, threads, n_tile)
    _warm_up(native, context, spec)
    return Backend(runner, tokenizer, template, facts, LlamaSlotStates(native, context))


def load_vocabulary(spec: LoadSpec) -> tuple[LlamaTokenizer, str | None]:
    """The tokenizer and the chat template of a GGUF file, without its weights.

    Raises:
        BackendLoadFailed: as `load`.
    """
    native = _native()
    model = _model(native, spec, lambda fraction: None, vocab_only=True)
    return LlamaTokenizer(native, model), _template(native, model)


def _native() -> Any:
    try:
        return load_native()
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendLoadFailed(
            ErrorText("llama_missing"),
            suggestions=(ErrorText("install", command=install_command("llama")),),
            metadata={"backend": NAME},
        ) from error


def _model(
    native: Any,
    spec: LoadSpec,
    on_progress: Callable[[float], None],
    *,
    seen: Mapping[int, float] = MappingProxyType({}),
    vocab_only: bool = False,
) -> Any:
    path = path_of(spec.path)
    if not path.is_file():
        raise BackendLoadFailed(
            ErrorText("file_gone", file=printable(path.name)), metadata={"backend": NAME}
        )

    model = load_model(
        native,
        path,
        on_progress,
        extra_buffers=spec.extra_buffers,
        products=expected_products(seen),
        vocab_only=vocab_only,
    )
    if not model:
        raise _failure(
            ErrorText("llama_file_refused", model=spec.model_id),
            (ErrorText("download_file"), ErrorText("update_package", package="llama-cpp-python")),
        )
    if native.llama_model_has_encoder(model) or not native.llama_model_has_decoder(model):
        native.llama_model_free(model)
        raise BackendLoadFailed(
            ErrorText("generates_no_text", model=spec.model_id), metadata={"backend": NAME}
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
        # llama.cpp supports quantized values only in its flash attention.
        params.flash_attn_type = native.LLAMA_FLASH_ATTN_TYPE_ENABLED
    elif not spec.flash_attention:
        params.flash_attn_type = native.LLAMA_FLASH_ATTN_TYPE_DISABLED
    # In one pool, slots share prefixes, and short requests leave cells for long ones.
    params.kv_unified = shares
    try:
        return LlamaContext(native, model, params, _adapter(native, model, spec))
    except RuntimeError:
        native.llama_model_free(model)
        raise _failure(ErrorText("context_not_made", model=spec.model_id), ()) from None


def _adapter(native: Any, model: Any, spec: LoadSpec) -> Adapter | None:
    if not spec.lora:
        return None
    handle = native.llama_adapter_lora_init(model, os.fsencode(spec.lora))
    if not handle:
        raise _failure(ErrorText("lora_refused", file=printable(Path(spec.lora).name)), ())
    return Adapter(handle, spec.lora_scale)


def _warm_up(native: Any, context: LlamaContext, spec: LoadSpec) -> None:
    """Compute once: kernels that fail on this processor fail now, before any request is served, and
    the model can still be loaded in another way."""
    n_tokens = min(WARM_UP_TOKENS, int(native.llama_n_batch(context.handle)))
    tokens = (ctypes.c_int32 * n_tokens)()
    if native.llama_decode(context.handle, native.llama_batch_get_one(tokens, n_tokens)):
        raise _failure(ErrorText("does_not_compute"), ())
    native.llama_memory_clear(context.memory, False)


def _tile(native: Any, spec: LoadSpec) -> int:
    if spec.kv_type == "q8_0" or native.llama_supports_gpu_offload():
        return 0
    return ATTENTION_TILE_TOKENS


def _failure(message: ErrorText, suggestions: tuple[ErrorText, ...]) -> BackendLoadFailed:
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
