"""How a model is loaded, as the settings and models.toml say."""

from pathlib import Path

from chat_worker.pipe_messages import LoadSpec
from chat_worker.settings import ChatSettings
from common.sizes import MIB
from worker_runtime.model_files.models_toml import ModelOptions
from worker_runtime.model_files.odd_paths import path_text

TRANSFORMERS_REPETITION_PENALTY = 1.1  # this backend's value since the earlier server


def load_spec(
    settings: ChatSettings, own: ModelOptions, model_id: str, backend: str, path: Path
) -> LoadSpec:
    """
    Args:
        own: what models.toml says of this model.
    """
    is_torch = backend == "transformers"
    return LoadSpec(
        backend=backend,
        # The same from whatever folder it was found: calibration data is stored under this path.
        path=path_text(path),
        model_id=model_id,
        n_ctx=own.context or settings.request_tokens,
        n_cells=settings.cache_tokens,
        n_parallel=own.slots or settings.parallel,
        n_batch=settings.batch_tokens,
        n_ubatch=settings.micro_batch_tokens,
        n_threads=_threads(settings, backend),
        max_input_tokens=settings.max_input_tokens,
        max_input_chars=settings.max_input_chars,
        on_overflow=settings.on_overflow,
        default_system_prompt=(
            settings.default_system_prompt if own.system_prompt is None else own.system_prompt
        ),
        global_seed=settings.global_seed,
        chat_template=own.chat_template or "",
        lora="" if is_torch else own.lora or "",
        lora_scale=own.lora_scale,
        speculate=settings.speculation,
        answer_wait_s=settings.answer_wait_s,
        kv_type=own.kv_type or settings.kv_type,
        flash_attention=settings.flash_attention == "auto",
        kept_folder=str(settings.kept_folder.resolve()) if settings.kept_folder else "",
        kept_bytes=settings.kept_mb * MIB,
        learnt_folder=path_text(settings.learnt_dir.resolve()),
        repetition_penalty=TRANSFORMERS_REPETITION_PENALTY if is_torch else 1.0,
        torch_dtype=settings.torch_dtype,
        quantization=settings.quantization,
        compile=settings.compile_model,
        precision=settings.precision,
        device=settings.device,
        weight_bits=4 if settings.weight_bits == "4" else 8,
        converted_dir=path_text(settings.converted_dir.resolve()),
    )


def _threads(settings: ChatSettings, backend: str) -> int:
    if backend == "openvino":
        return settings.torch_threads or settings.threads
    return settings.threads if backend == "llama.cpp" else settings.torch_threads
