"""Converts a model for OpenVINO: `python -m chat_worker.backends.openvino.convert`.

The graph is built here from the tensors of a safetensors folder or a GGUF file, and its logits are
compared with those of the model's own library: a model whose logits differ must run there, and the
record states the reason.
"""

from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from chat_worker.backends.openvino.compiled import compile_model, forget_pages, read_model
from chat_worker.backends.openvino.decoder_graph import decoder_graph
from chat_worker.backends.openvino.original import (
    PROBE,
    TOLERANCES,
    read_original,
    runner_logits,
)
from chat_worker.backends.openvino.runner import OpenVinoRunner
from chat_worker.backends.openvino.weights import DecoderWeights
from chat_worker.conversions import CONVERSIONS, GRAPH, Record, bits_in
from chat_worker.engine.runner import Limits, RunFailed
from common.errors import BackendLoadFailed
from worker_runtime.conversion.cache import NotConvertible
from worker_runtime.conversion.converter import run
from worker_runtime.conversion.process import OnProgress
from worker_runtime.model_files.errors import InvalidModelFile

CONVERSION_ERRORS = (
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RunFailed,
    BackendLoadFailed,
    InvalidModelFile,
)


def convert(source: Path, folder: Path, on_progress: OnProgress) -> Record:
    """Write the graph of `source` to `folder`, and return its record.

    Raises:
        NotConvertible: the model must run on its own library.
    """
    bits = bits_in(folder)
    on_progress(0.1, "computing with its own library")
    # First, so that its weights have left the memory before the others are made.
    original = read_original(source)
    on_progress(0.3, "converting")
    weights = DecoderWeights(original.tensors, bits=bits, is_tied=original.is_tied)
    graph = decoder_graph(original.shape, weights)
    openvino.save_model(graph, folder / GRAPH, compress_to_fp16=False)
    # The graph holds all weights; from here on it is read from its file.
    del graph, weights
    on_progress(0.6, "comparing")
    difference = _difference(_logits(folder, original.logits.shape[-1]), original.logits)
    # Written so that NaN fails.
    if not difference <= TOLERANCES.get(bits, original.tolerance):
        raise NotConvertible(f"its converted form differs: by {difference:.4f}")
    return Record(difference=difference)


def _logits(folder: Path, n_vocab: int) -> NDArray[np.float32]:
    """What the converted model computes."""
    # The pages must stay mapped as long as the model computes.
    model, pages = read_model(folder)
    compiled = compile_model(model, "f32", "f16", n_threads=0)
    n_tokens = len(PROBE)
    limits = Limits(1, 1, n_tokens, n_tokens, n_tokens, n_tokens, n_vocab)
    runner = OpenVinoRunner(compiled, limits)
    logits = runner_logits(runner)
    runner.close()
    forget_pages(pages)
    return logits


def _difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).mean() / expected.std())


def main() -> None:
    run(CONVERSIONS, convert, CONVERSION_ERRORS)


if __name__ == "__main__":
    main()
