"""Converts a sentence-transformers model for OpenVINO: `python -m embed_worker.encoders.convert`.

The stored graph is the traced model itself, with its own pooling and normalisation, without padding
if the model allows that. Its vectors are compared with torch's: a model whose vectors differ must
run on torch, and the record states the reason. Progress is written to stdout, a fraction and a
stage per line.
"""

import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from embed_worker.encoders.batch_inputs import any_row, batch_inputs
from embed_worker.encoders.conversion_cache import CONVERSIONS
from embed_worker.encoders.conversion_files import GRAPH, TOKENIZER, Record
from embed_worker.encoders.openvino import LEAST_COSINE, PRECISIONS, OpenVinoEncoder, compiled
from embed_worker.encoders.positions import first_position
from embed_worker.encoders.torch import TorchEncoder, load_model, loaded
from embed_worker.encoders.traced_model import PaddedModel, UnpaddedModel
from embed_worker.engine.call import Row
from embed_worker.engine.runner import BatchFailed
from worker_runtime.conversion.cache import NotConvertible
from worker_runtime.conversion.converter import is_shortage, run
from worker_runtime.conversion.process import OnProgress

# Modules whose result depends only on token ids and mask.
MODULES = {"Transformer", "Pooling", "Dense", "Normalize", "LayerNorm", "Dropout"}
CONVERSION_ERRORS = (
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    BatchFailed,
)
# The least cosines in float32: our own unpadded form must be nearly exact, and the padded form,
# which the tracer makes of the model as it is, only good enough.
LEAST_COSINES = {UnpaddedModel: 0.999999, PaddedModel: LEAST_COSINE}
SENTENCE = "The quick brown fox jumps over the lazy dog, and nobody minds. "
SENTENCE_ZH = "記憶體不足時，模型會先被卸載，然後才載入下一個。"
PROBES = (
    "a",
    "hello world",
    "模型",
    "What is the capital of France?",
    SENTENCE,
    SENTENCE_ZH,
    "def f(x): return x ** 2  # 2026-11-03, 3.14159",
    "Ünïcödé, ﬁ ½ 🙂 МОСКВА",
    "unload " * 20,
    SENTENCE * 5,
    SENTENCE_ZH * 5,
    SENTENCE * 60,
)
# So many probes form one batch. It is small, as attention to the longest takes memory for each.
TOGETHER = 4
# The rows to trace the model with: two that differ in length.
EXAMPLE = [any_row(7), any_row(3)]


def convert(source: Path, folder: Path, on_progress: OnProgress) -> Record:
    """Write the graph and the tokenizer of `source` to `folder`, and return their record.

    Raises:
        NotConvertible: the model must run on torch.
    """
    on_progress(0.2, "reading weights")
    # In float32 whatever the type in the files, so that the reference is as exact as possible.
    model = load_model(source, "cpu", dtype=torch.float32)
    reference = loaded(model)
    assert isinstance(reference.runner, TorchEncoder)
    _check_modules(model)
    tokenizer = model.tokenizer
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.save(str(folder / TOKENIZER))
    record = Record(
        dimension=reference.runner.dimension,
        max_tokens=reference.tokens.max_tokens,
        n_embedded=model[0].auto_model.get_input_embeddings().num_embeddings,
        pad_id=tokenizer.pad_token_id or 0,
        pools_prompt=reference.runner.pools_prompt,
        first_position=first_position(model[0].auto_model),
        prompts=reference.prompts.by_name,
        default_prompt_name=reference.prompts.default_name,
    )
    rows = reference.tokens.rows(PROBES).rows
    if not record.pools_prompt:
        rows += reference.tokens.rows(PROBES, prompt="query: ").rows
    expected = _each(reference.runner, rows)
    for record.unpadded, traced in ((True, UnpaddedModel), (False, PaddedModel)):
        try:
            on_progress(0.4, "converting")
            graph = _traced(traced(model, takes_types=reference.runner.takes_types), record)
            openvino.save_model(graph, folder / GRAPH, compress_to_fp16=False)
            # The graph holds all weights; from here on it is read from its file.
            del graph
            on_progress(0.7, "comparing with torch")
            record.cosines = _cosines(folder, record, rows, expected)
        except CONVERSION_ERRORS as error:
            if traced is PaddedModel or is_shortage(error):
                raise
            traceback.print_exc()
        else:
            if record.cosines["f32"] >= LEAST_COSINES[traced]:
                return record
    raise NotConvertible(f"its converted form differs: cosine {record.cosines['f32']:.6f}")


def _check_modules(model: SentenceTransformer) -> None:
    names = [type(module).__name__ for module in model.children()]
    unknown = [name for name in names if name not in MODULES]
    if unknown or names[:1] != ["Transformer"]:
        raise NotConvertible(f"its modules {', '.join(names)} are not all known to the converter")
    for module in model.children():
        modes = getattr(module, "pooling_mode", ())
        if "weightedmean" in modes and not module.include_prompt:
            # Its weights count from the beginning of the prompt, which its mask does not show.
            raise NotConvertible("its weighted mean leaves out the prompt")


@torch.inference_mode()
def _traced(traced: torch.nn.Module, record: Record) -> Any:
    arrays = batch_inputs(record).arrays(EXAMPLE)
    with warnings.catch_warnings():
        # The tracer warns of every branch; the comparison shows whether a branch mattered.
        warnings.simplefilter("ignore")
        graph = openvino.convert_model(
            traced.eval(), example_input=tuple(torch.from_numpy(array) for array in arrays)
        )
    graph.reshape(
        {index: openvino.PartialShape([-1] * array.ndim) for index, array in enumerate(arrays)}
    )
    return graph


def _cosines(
    folder: Path, record: Record, rows: list[Row], expected: NDArray[np.float32]
) -> dict[str, float]:
    """Return the smallest cosine to torch's vectors, by the precision of the computation."""
    inputs = batch_inputs(record)
    cosines = {}
    for precision in PRECISIONS:
        ready = compiled(folder, precision, inputs, n_threads=0)
        # On most CPUs, what "auto" chooses is one of the others.
        if ready.precision not in cosines:
            cosines[ready.precision] = _least_cosine(OpenVinoEncoder(ready, inputs), rows, expected)
    return cosines


def _least_cosine(runner: OpenVinoEncoder, rows: list[Row], expected: NDArray[np.float32]) -> float:
    """Return the smallest cosine over all rows, each computed alone and in a batch."""
    together = np.concatenate(
        [
            np.frombuffer(runner.encode(rows[start : start + TOGETHER]), "<f4")
            for start in range(0, len(rows), TOGETHER)
        ]
    ).reshape(expected.shape)
    found = np.stack([_each(runner, rows), together])
    dots = (found * expected).sum(axis=-1)
    norms = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    return float((dots / norms).min())


def _each(runner: TorchEncoder | OpenVinoEncoder, rows: list[Row]) -> NDArray[np.float32]:
    return np.concatenate(
        [np.frombuffer(runner.encode([row]), "<f4").reshape(1, -1) for row in rows]
    )


def main() -> None:
    run(CONVERSIONS, convert, CONVERSION_ERRORS)


if __name__ == "__main__":
    main()
