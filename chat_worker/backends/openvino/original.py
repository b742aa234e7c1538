"""A model as its own library computes it: what a converted form is made of and compared with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chat_worker.backends.openvino.decoder_graph import DecoderShape
from chat_worker.backends.openvino.decoder_shape import shape_of, shape_of_gguf
from chat_worker.backends.openvino.gguf_tensors import GgufTensors
from chat_worker.backends.openvino.tensors import SafetensorsTensors
from chat_worker.backends.openvino.weights import Tensors
from chat_worker.engine.runner import ModelRunner, ScheduledTokens
from chat_worker.engine.sampling import Sampler, SamplingParams
from chat_worker.engine.sequence import Sequence
from chat_worker.pipe_messages import LoadSpec
from worker_runtime.model_files.folders import read_causal_lm
from worker_runtime.model_files.odd_paths import path_text
from worker_runtime.model_files.small_json import read_object

PROBE = [*range(1, 49), *range(1, 17)]
# The largest mean difference of logits, as a part of their spread, by the bits of rounded weights.
TOLERANCES = {8: 0.1, 4: 0.5}
# llama.cpp rounds the inputs of products as it does the weights.
TRANSFORMERS_TOLERANCE, LLAMA_TOLERANCE = 0.001, 0.02


@dataclass(frozen=True)
class Original:
    """
    Args:
        is_tied: the output layer uses the embedding's weights, whatever the files hold.
        logits: what its own library computes at all positions of `PROBE`: (n_tokens, n_vocab).
        tolerance: the largest difference of logits that exact weights may have.
    """

    shape: DecoderShape
    tensors: Tensors
    is_tied: bool
    logits: NDArray[np.float32]
    tolerance: float


def read_original(source: Path) -> Original:
    """Compute with the model's own library, which frees its memory again, and map its tensors.

    Raises:
        NotConvertible: the graph of this kind of model is not known.
    """
    return _of_folder(source) if source.is_dir() else _of_gguf(source)


def runner_logits(runner: ModelRunner) -> NDArray[np.float32]:
    """The logits at all positions of `PROBE`, computed in two parts."""
    sampler = Sampler(SamplingParams(), [])
    n_tokens = len(PROBE)
    sequence = Sequence(call_id=0, choice=0, tokens=PROBE, limit=n_tokens, sampler=sampler)
    half = n_tokens // 2
    parts = [(0, half), (half, n_tokens - half)]
    return np.concatenate(
        [
            np.array(runner.run([ScheduledTokens(sequence, 0, start, n_each, n_each)]))
            for start, n_each in parts
        ]
    )


def _of_folder(source: Path) -> Original:
    config = read_object(source / "config.json")
    shape = shape_of(config)
    return Original(
        shape,
        SafetensorsTensors(read_causal_lm(source).weights.files),
        is_tied=config.get("tie_word_embeddings") is True,
        logits=_transformers_logits(source),
        tolerance=TRANSFORMERS_TOLERANCE,
    )


def _of_gguf(source: Path) -> Original:
    tensors = GgufTensors(source)
    return Original(
        shape_of_gguf(tensors.header, tensors.stretch),
        tensors,
        is_tied=False,
        logits=_llama_logits(source),
        tolerance=LLAMA_TOLERANCE,
    )


def _transformers_logits(source: Path) -> NDArray[np.float32]:
    """In float32."""
    # Imported here because GGUF files are converted where torch is not installed.
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    model: Any = AutoModelForCausalLM.from_pretrained(
        source,
        dtype=torch.float32,
        trust_remote_code=False,
        local_files_only=True,
        use_safetensors=True,
    )
    with torch.inference_mode():
        logits: NDArray[np.float32] = model(torch.tensor([PROBE])).logits[0].numpy()
    return logits


def _llama_logits(source: Path) -> NDArray[np.float32]:
    from chat_worker.backends.llama_cpp.load import load

    spec = LoadSpec(
        backend="llama.cpp",
        path=path_text(source),
        n_ctx=len(PROBE),
        n_parallel=1,
        extra_buffers=False,
    )
    runner = load(spec, lambda fraction: None).runner
    logits = runner_logits(runner)
    runner.close()
    return logits
