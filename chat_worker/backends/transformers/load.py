"""Loads a safetensors folder into a `Backend`, and explains failures in terms of this server.

Code that comes with a model is never run, pickled weights are never read, nothing is downloaded.
Errors from a lack of memory are left to the engine's host, which has suggestions for them.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils.logging import disable_progress_bar

from chat_worker.backend import Backend
from chat_worker.backends.sizes import context_tokens, n_cells
from chat_worker.backends.threads import n_threads
from chat_worker.backends.transformers import USE_GGUF, precision
from chat_worker.backends.transformers.cache import attend
from chat_worker.backends.transformers.compiled import compile_model
from chat_worker.backends.transformers.packed import pack_linears
from chat_worker.backends.transformers.probe import check_layers, check_runner, plain_logits
from chat_worker.backends.transformers.runner import TransformersRunner
from chat_worker.backends.transformers.tokenizer import (
    HuggingFaceTokenizer,
    chat_template,
    end_tokens,
    read_object,
)
from chat_worker.engine.runner import Limits
from chat_worker.pipe_messages import Facts, LoadSpec
from common.error_texts import ErrorText
from common.errors import BackendLoadFailed
from worker_runtime.libraries import install_command
from worker_runtime.memory.oom_signs import shortage_of
from worker_runtime.model_files.odd_paths import library_path

NAME = "transformers"
ATTENTION = "y26hkx_slots"
N_SPARE_SLOTS = 4  # besides the running ones, for prefixes
N_SPARE_ROWS = 60  # logits rows besides the running ones, for scoring prompts


def load(spec: LoadSpec, on_progress: Callable[[float, str], None]) -> Backend:
    """Load the folder's model; its KV cache grows with its tokens.

    Raises:
            BackendLoadFailed: the folder is damaged or needs code of its own, this kind of model
                is not supported, or a library is missing.
    """
    folder = library_path(spec.path)
    on_progress(0.1, "configuration")
    config = _config(folder)
    # Small and fast, so it is done first: its errors should not appear only after minutes.
    tokenizer, template = _text(folder, config)
    threads = n_threads(spec, _weight_bytes(folder))
    torch.set_num_threads(threads())
    on_progress(0.15, "weights")
    model = _model(spec, folder, config)
    on_progress(0.7, "preparing weights")
    expected = plain_logits(model)
    _prepare(model, spec, config.dtype)
    limits = _limits(spec, config, len(expected))
    runner = TransformersRunner(model, limits, threads)
    on_progress(0.9, "comparing with the plain model")
    check_runner(runner, config, expected)
    if _compiles(spec):
        on_progress(0.92, "compiling")
        compile_model(model, lambda: check_runner(runner, config, expected))
    facts = Facts(
        backend=NAME,
        n_ctx=limits.n_ctx,
        n_ctx_train=_trained_tokens(config),
        n_vocab=limits.n_vocab,
        n_parallel=spec.n_parallel,
        n_cells=limits.n_cells,
        description=_description(model, config, spec),
    )
    return Backend(runner, tokenizer, template, facts, runner.states)


def _config(folder: Path) -> Any:
    if "auto_map" in read_object(folder / "config.json"):
        raise BackendLoadFailed(
            ErrorText("needs_own_code"),
            suggestions=(USE_GGUF,),
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, KeyError, OSError, StrictDataclassError) as error:
        raise BackendLoadFailed(
            ErrorText("transformers_refuses"),
            suggestions=(ErrorText("update_package", package="transformers"), USE_GGUF),
        ) from error
    check_layers(config)
    return config


def _text(folder: Path, config: Any) -> tuple[HuggingFaceTokenizer, str | None]:
    said = read_object(folder / "tokenizer_config.json")
    ends = end_tokens(folder, getattr(config, "eos_token_id", None))
    tokenizer = HuggingFaceTokenizer(folder, said, ends, config.vocab_size)
    return tokenizer, chat_template(folder, said)


def _model(spec: LoadSpec, folder: Path, config: Any) -> Any:
    kind = precision.dtype(spec, config.dtype)
    arguments: dict[str, Any] = {"dtype": kind, "attn_implementation": "eager"}
    if spec.quantization != "none":
        arguments["quantization_config"] = _quantization(spec.quantization, kind)
        arguments["device_map"] = {"": precision.device()}
    disable_progress_bar()
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **arguments,
        )
    except (ValueError, KeyError, OSError, ImportError, RuntimeError, SafetensorError) as error:
        if shortage_of(error) is not None:
            raise
        raise _damaged() from error
    if report["missing_keys"]:
        raise _damaged()
    return model.eval().to(precision.device()) if spec.quantization == "none" else model.eval()


def _damaged() -> BackendLoadFailed:
    return BackendLoadFailed(
        ErrorText("weights_damaged"),
        suggestions=(ErrorText("download_files"), USE_GGUF),
    )


def _quantization(bits: str, kind: torch.dtype) -> BitsAndBytesConfig:
    if not all(map(importlib.util.find_spec, ("bitsandbytes", "accelerate"))):
        raise BackendLoadFailed(
            ErrorText("bitsandbytes_missing", bits=bits),
            suggestions=(
                ErrorText("install", command=install_command("quantized")),
                ErrorText("set_setting", setting="MODEL_QUANTIZATION=none"),
                USE_GGUF,
            ),
        )
    if bits == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_compute_dtype=kind, bnb_4bit_quant_type="nf4"
    )


def _prepare(model: Any, spec: LoadSpec, stored: torch.dtype | None) -> None:
    """Make the model's attention use our slots, and make the model fast."""
    if precision.device().type == "cpu" and spec.quantization == "none":
        pack_linears(model, stored)
    AttentionInterface.register(
        ATTENTION, torch.compiler.disable(attend) if _compiles(spec) else attend
    )
    model.set_attn_implementation(ATTENTION)


def _compiles(spec: LoadSpec) -> bool:
    # On a CPU, packed weights are twice as fast as compiled code, and cannot be compiled.
    return spec.compile and precision.device().type != "cpu"


def _limits(spec: LoadSpec, config: Any, n_vocab: int) -> Limits:
    n_ctx = context_tokens(spec, _trained_tokens(config))
    return Limits(
        n_parallel=spec.n_parallel,
        n_slots=spec.n_parallel + N_SPARE_SLOTS,
        n_cells=n_cells(spec, n_ctx),
        n_ctx=n_ctx,
        n_batch=spec.n_batch,
        n_rows=spec.n_parallel + N_SPARE_ROWS,
        n_vocab=n_vocab,
    )


def _trained_tokens(config: Any) -> int:
    """The context length of the model's training in tokens; 0 if it is not stated."""
    trained = getattr(config, "max_position_embeddings", None) or 0
    rope = getattr(config, "rope_parameters", None) or {}
    # Beyond the first length, these rotate what is already in the cache differently.
    if rope.get("rope_type") in ("dynamic", "longrope"):
        original = rope.get("original_max_position_embeddings") or trained
        trained = min(trained, original)
    return int(trained)


def _weight_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _description(model: Any, config: Any, spec: LoadSpec) -> str:
    quantized = spec.quantization != "none"
    number = spec.quantization if quantized else str(model.dtype).removeprefix("torch.")
    return f"{config.model_type} {number} {model.device.type}"
