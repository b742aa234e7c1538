"""Converts a safetensors folder for OpenVINO: `python -m chat_worker.backends.openvino.convert`.

The graph is built here from the tensors, and its logits are compared with those of transformers: a
model whose logits differ must run on transformers, and the record states the reason.
"""

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from chat_worker.backends.openvino.compiled import compile_model, forget_pages, read_model
from chat_worker.backends.openvino.decoder_graph import decoder_graph
from chat_worker.backends.openvino.decoder_shape import shape_of
from chat_worker.backends.openvino.runner import OpenVinoRunner
from chat_worker.backends.openvino.tensors import SafetensorsTensors
from chat_worker.backends.openvino.weights import DecoderWeights
from chat_worker.conversions import CONVERSIONS, GRAPH, Record, is_exact
from chat_worker.engine.runner import Limits, RunFailed, ScheduledTokens
from chat_worker.engine.sampling import Sampler, SamplingParams
from chat_worker.engine.sequence import Sequence
from worker_runtime.conversion.cache import NotConvertible, OnProgress
from worker_runtime.conversion.converter import run
from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.folders import read_causal_lm
from worker_runtime.model_files.odd_paths import path_text
from worker_runtime.model_files.small_json import read_object

PROBE = [*range(1, 49), *range(1, 17)]
# The mean difference of logits as a part of their spread: rounded weights cause a few hundredths.
TOLERANCES = {True: 0.001, False: 0.1}
CONVERSION_ERRORS = (
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RunFailed,
    InvalidModelFile,
)


def convert(source: Path, folder: Path, on_progress: OnProgress) -> Record:
    """Write the graph of `source` to `folder`, and return its record.

    Raises:
        NotConvertible: the model must run on transformers.
    """
    config = read_object(source / "config.json")
    shape = shape_of(config)
    exact = is_exact(folder)
    on_progress(0.1, "computing with transformers")
    # First, so that its weights have left the memory before the others are made.
    expected = _plain_logits(source)
    on_progress(0.3, "converting")
    tensors = SafetensorsTensors(read_causal_lm(source).weights.files)
    is_tied = config.get("tie_word_embeddings") is True
    weights = DecoderWeights(tensors, rounded=not exact, is_tied=is_tied)
    graph = decoder_graph(shape, weights)
    openvino.save_model(graph, folder / GRAPH, compress_to_fp16=False)
    # The graph holds all weights; from here on it is read from its file.
    del graph, weights
    on_progress(0.6, "comparing with transformers")
    difference = _difference(_logits(folder, expected.shape[-1]), expected)
    # Written so that NaN fails.
    if not difference <= TOLERANCES[exact]:
        raise NotConvertible(f"its converted form differs: by {difference:.4f}")
    return Record(
        source=path_text(source.resolve()),
        state=CONVERSIONS.source_state(source),
        checks=CONVERSIONS.checks_of(folder),
        difference=difference,
    )


@torch.inference_mode()
def _plain_logits(source: Path) -> NDArray[np.float32]:
    """transformers' logits at all positions of `PROBE`, in float32: (n_tokens, n_vocab)."""
    disable_progress_bar()
    model: Any = AutoModelForCausalLM.from_pretrained(
        source,
        dtype=torch.float32,
        trust_remote_code=False,
        local_files_only=True,
        use_safetensors=True,
    )
    logits: NDArray[np.float32] = model(torch.tensor([PROBE]), use_cache=False).logits[0].numpy()
    return logits


def _logits(folder: Path, n_vocab: int) -> NDArray[np.float32]:
    """The same, computed by the converted model in two parts."""
    # The pages must stay mapped as long as the model computes.
    model, pages = read_model(folder)
    compiled = compile_model(model, "f32", "f16", n_threads=0)
    n_tokens = len(PROBE)
    limits = Limits(1, 1, n_tokens, n_tokens, n_tokens, n_tokens, n_vocab)
    runner = OpenVinoRunner(compiled, limits)
    sampler = Sampler(SamplingParams(), [])
    sequence = Sequence(call_id=0, choice=0, tokens=PROBE, limit=n_tokens, sampler=sampler)
    half = n_tokens // 2
    parts = [(0, half), (half, n_tokens - half)]
    rows = [
        np.array(runner.run([ScheduledTokens(sequence, 0, start, n_each, n_each)]))
        for start, n_each in parts
    ]
    runner.close()
    forget_pages(pages)
    return np.concatenate(rows)


def _difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).mean() / expected.std())


def main() -> None:
    run(CONVERSIONS, convert, CONVERSION_ERRORS)


if __name__ == "__main__":
    main()
