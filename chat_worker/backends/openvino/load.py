"""Loads a model into a `Backend` on OpenVINO, converting it first if it has another format.

Nothing is downloaded, and no code that comes with a model is run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from chat_worker.backend import Backend, Tokenizer
from chat_worker.backends.llama_cpp.load import load_vocabulary
from chat_worker.backends.openvino.compiled import (
    GROUPS,
    NoSuchDevice,
    check_device,
    compile_model,
    forget_pages,
    read_model,
)
from chat_worker.backends.openvino.runner import OpenVinoRunner
from chat_worker.backends.openvino.slot_states import OpenVinoSlotStates
from chat_worker.backends.sizes import context_tokens, n_cells, n_paged_slots, step_tokens
from chat_worker.backends.threads import n_threads
from chat_worker.backends.transformers.tokenizer import (
    HuggingFaceTokenizer,
    chat_template,
    end_tokens,
    read_object,
)
from chat_worker.conversions import CONVERSIONS, WEIGHTS, folder_for, weight_bits
from chat_worker.engine.runner import Limits, RunFailed, ScheduledTokens, TruncateSlot
from chat_worker.engine.sampling import Sampler, SamplingParams
from chat_worker.engine.sequence import Sequence
from chat_worker.pipe_messages import Facts, LoadSpec
from common.error_texts import ErrorText
from common.errors import BackendLoadFailed
from common.freed_memory import return_freed_memory
from worker_runtime.conversion.cache import NotConvertible
from worker_runtime.memory.oom_signs import shortage_of
from worker_runtime.model_files.folders import CONTEXT_KEYS, is_openvino_folder
from worker_runtime.model_files.gguf import read_gguf_header
from worker_runtime.model_files.odd_paths import library_path, path_of

NAME = "openvino"
N_SPARE_ROWS = 60  # logits rows besides the running ones, for scoring prompts
# Tokens of the first steps, which repack the weights and show whether all operators work.
WARM_UP_TOKENS = 16


def load(spec: LoadSpec, on_progress: Callable[[float, str], None]) -> Backend:
    """Load a folder or a GGUF file, with a KV cache whose memory is used as it fills.

    Raises:
        BackendLoadFailed: the files are damaged, or OpenVINO does not run this model.
    """
    on_progress(0.0, "configuration")
    text = _text_of_gguf(spec) if path_of(spec.path).is_file() else _text_of_folder(spec)
    compiled, pages = _compiled(spec, on_progress)
    runner = OpenVinoRunner(compiled, _limits(spec, text.n_trained, compiled), pages)
    on_progress(0.9, "warming up")
    _warm_up(runner)
    forget_pages(pages)
    return_freed_memory()
    facts = Facts(
        backend=NAME,
        n_ctx=runner.limits.n_ctx,
        n_ctx_train=text.n_trained,
        n_vocab=runner.limits.n_vocab,
        n_parallel=spec.n_parallel,
        n_cells=runner.limits.n_cells,
        description=f"{text.kind} {_computes_in(compiled)} {spec.device.lower()}",
    )
    tokenizer, states = text.tokenizer(runner.limits.n_vocab), OpenVinoSlotStates(runner)
    return Backend(runner, tokenizer, text.template, facts, states)


class _Text(NamedTuple):
    """What a model's files state about text.

    Args:
        tokenizer: makes it for a vocabulary of the given size.
        n_trained: the context of its training in tokens; 0 if that is not stated.
    """

    kind: str
    tokenizer: Callable[[int], Tokenizer]
    template: str | None
    n_trained: int


def _text_of_folder(spec: LoadSpec) -> _Text:
    folder = library_path(spec.path)
    config = read_object(folder / "config.json")
    said = read_object(folder / "tokenizer_config.json")
    ends = end_tokens(folder, config.get("eos_token_id"))
    return _Text(
        str(config.get("model_type")),
        lambda n_vocab: HuggingFaceTokenizer(folder, said, ends, n_vocab),
        chat_template(folder, said),
        next((int(config[key]) for key in CONTEXT_KEYS if config.get(key)), 0),
    )


def _text_of_gguf(spec: LoadSpec) -> _Text:
    """llama.cpp's own reading of it."""
    tokenizer, template = load_vocabulary(spec)
    header = read_gguf_header(path_of(spec.path))
    return _Text(header.architecture, lambda n_vocab: tokenizer, template, header.context_length)


def _compiled(spec: LoadSpec, on_progress: Callable[[float, str], None]) -> tuple[Any, Any]:
    """The compiled model, and the mapped file with its weights.

    Raises:
        BackendLoadFailed: OpenVINO does not run this model.
    """
    try:
        check_device(spec.device)
        path, place = path_of(spec.path), _converted(spec, on_progress)
        on_progress(0.7, "compiling")
        model, pages = read_model(place)
        threads = n_threads(spec, (place / WEIGHTS).stat().st_size)()
        own = 0 if is_openvino_folder(path) else GROUPS[weight_bits(spec)]
        compiled = compile_model(
            model,
            spec.precision,
            spec.kv_type,
            n_threads=threads,
            group=own,
            device=spec.device,
        )
    except NoSuchDevice as error:
        raise _no_device(spec.device, error) from error
    except (NotConvertible, RuntimeError, OSError) as error:
        if shortage_of(error) is not None:
            raise
        raise _refused(error) from error
    return compiled, pages


def _converted(spec: LoadSpec, on_progress: Callable[[float, str], None]) -> Path:
    """The folder with the graph: the model's own, or that of its converted form."""
    path = library_path(spec.path)
    if is_openvino_folder(path):
        return path
    cache = folder_for(spec.converted_dir, weight_bits(spec))
    return CONVERSIONS.converted(path, cache, on_progress)[0]


def _limits(spec: LoadSpec, n_trained: int, compiled: Any) -> Limits:
    n_ctx = context_tokens(spec, n_trained)
    vocabulary = list(compiled.output(0).get_partial_shape())[-1]
    return Limits(
        n_parallel=spec.n_parallel,
        n_slots=n_paged_slots(spec.n_parallel),
        n_cells=n_cells(spec, n_ctx),
        n_ctx=n_ctx,
        n_batch=step_tokens(spec),
        n_rows=spec.n_parallel + N_SPARE_ROWS,
        n_vocab=vocabulary.get_length(),
    )


def _warm_up(runner: OpenVinoRunner) -> None:
    """Compute a prompt and an answer beside a prompt: what fails on this processor fails now.

    Raises:
        BackendLoadFailed: it does, or a result is not a number.
    """
    tokens = list(range(1, WARM_UP_TOKENS + 1))
    one, other = (_sequence(tokens) for _ in range(2))
    half = WARM_UP_TOKENS // 2
    try:
        runner.run([ScheduledTokens(one, 0, 0, half, 0)])
        rows = runner.run(
            [ScheduledTokens(one, 0, half, 1, 1), ScheduledTokens(other, 1, 0, half, 1)]
        )
    except RunFailed as error:
        if shortage_of(error.__cause__ or error) is not None:
            raise
        raise _refused(error) from error
    for slot in (0, 1):
        runner.apply(TruncateSlot(slot, 0))
    if not np.isfinite(rows).all():
        raise _refused(RuntimeError("its logits are not finite"))


def _sequence(tokens: list[int]) -> Sequence:
    sampler = Sampler(SamplingParams(), [])
    return Sequence(call_id=0, choice=0, tokens=tokens, limit=len(tokens), sampler=sampler)


def _computes_in(compiled: Any) -> str:
    kind: str = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    group = compiled.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE")
    return f"{kind}, 8-bit inputs" if kind == "f32" and group else kind


def _no_device(device: str, error: NoSuchDevice) -> BackendLoadFailed:
    return BackendLoadFailed(
        ErrorText("openvino_no_device", device=device, listed=str(error)),
        suggestions=(ErrorText("set_setting", setting="OPENVINO_DEVICE=CPU"),),
        metadata={"backend": NAME},
    )


def _refused(error: Exception) -> BackendLoadFailed:
    # A library's own text may contain paths, so only the log has it.
    detail = error if isinstance(error, NotConvertible) else ErrorText("openvino_failed")
    return BackendLoadFailed(
        ErrorText("openvino_refuses", detail=detail),
        suggestions=(ErrorText("set_setting", setting="MODEL_BACKEND=auto"),),
        metadata={"backend": NAME},
    )
