"""OpenVINO on the CPU: runs converted models without torch or transformers."""

import contextlib
import math
import mmap
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import openvino
import tokenizers
from numpy.typing import NDArray

from embed_worker.encoders.batch_inputs import BatchInputs, any_row, batch_inputs
from embed_worker.encoders.conversion_cache import CONVERSIONS
from embed_worker.encoders.conversion_files import GRAPH, TOKENIZER, WEIGHTS
from embed_worker.encoders.int8 import round_weights
from embed_worker.encoders.loaded import LoadedEncoder
from embed_worker.encoders.prompts import Prompts
from embed_worker.encoders.tokens import Tokenization
from embed_worker.engine.call import Row
from embed_worker.engine.runner import BatchFailed

BACKEND = "openvino"
# "auto" is OpenVINO's choice for the device: bfloat16 if the CPU has it, else float32.
PRECISIONS = ("auto", "f32", "bf16", "int8")
LEAST_COSINE = 0.9999
# Kernels for shapes of batches: with more, all-MiniLM-L6-v2 needs over 250 MB.
N_KEPT_KERNELS = 48
# Larger batches gain little, make short requests wait, and need memory.
BUDGETS = (256, 512, 1024)
TRY_TOKENS = 64
TRY_S = 0.25
ABOUT_AS_FAST = 0.95


def load(
    path: Path,
    *,
    cache: Path,
    precision: str,
    n_threads: int,
    on_progress: Callable[[float, str], None],
) -> LoadedEncoder:
    """Load a model, converting it first if necessary.

    Args:
        cache: the folder of converted models.
        precision: one of `PRECISIONS`; "auto" becomes "f32" for a model that loses accuracy.
    Raises:
        NotConvertible: the model must run on torch.
    """
    folder, record = CONVERSIONS.converted(path, cache, on_progress)
    on_progress(0.8, "compiling")
    inputs = batch_inputs(record)
    model = compiled(folder, precision, inputs, n_threads=n_threads)
    if precision == "auto" and record.cosines.get(model.precision, 0) < LEAST_COSINE:
        model = compiled(folder, "f32", inputs, n_threads=n_threads)
    runner = OpenVinoEncoder(model, inputs)
    tokens = Tokenization(
        tokenizers.Tokenizer.from_file(str(folder / TOKENIZER)),
        max_tokens=record.max_tokens,
        n_embedded=record.n_embedded,
    )
    setting = f"{model.precision}, threads {n_threads}"
    if setting not in record.batch_tokens:
        on_progress(0.9, "measuring batches")
        record.batch_tokens[setting] = runner.fastest_batch(record.max_tokens)
        # The measured batches were larger than any that follow.
        runner.shed()
        # If it cannot be written, it is measured again at the next load.
        with contextlib.suppress(OSError):
            CONVERSIONS.write(folder, record)
    return LoadedEncoder(
        runner=runner,
        tokens=tokens,
        prompts=Prompts(record.prompts, record.default_prompt_name),
        device="cpu",
        batch_tokens=record.batch_tokens[setting],
        backend=BACKEND,
        precision=model.precision,
        # Not measured if the model was converted on another CPU.
        cosine=record.cosines.get(model.precision, math.nan),
    )


class Compiled(msgspec.Struct, frozen=True):
    """A model ready to run, and the mapped file from which it reads weights."""

    graph: Any
    pages: mmap.mmap | None
    # Of the computation: "bf16", "f32", "bf16, int8 weights".
    precision: str


def compiled(folder: Path, precision: str, inputs: BatchInputs, *, n_threads: int) -> Compiled:
    """The converted model in `folder`, compiled for this CPU."""
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "CPU_RUNTIME_CACHE_CAPACITY": N_KEPT_KERNELS,
        # Otherwise a text's vector would depend on its neighbours.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }
    if n_threads:
        config["INFERENCE_NUM_THREADS"] = n_threads
    if precision in ("f32", "bf16"):
        config["INFERENCE_PRECISION_HINT"] = precision
    core = openvino.Core()
    graph, pages = _read(core, folder)
    if precision == "int8":
        round_weights(graph)
    ready = core.compile_model(graph, "CPU", config)
    # The first batch repacks the weights. Afterwards the file's pages need not stay in memory;
    # those that are still read are loaded again.
    ready(inputs.arrays([any_row(1)]))
    if sys.platform != "win32" and pages is not None:
        pages.madvise(mmap.MADV_DONTNEED)
    used = ready.get_property("INFERENCE_PRECISION_HINT").to_string()
    return Compiled(ready, pages, f"{used}, int8 weights" if precision == "int8" else used)


def _read(core: openvino.Core, folder: Path) -> tuple[Any, mmap.mmap | None]:
    if sys.platform == "win32":
        # On Windows a writable mapping counts as memory in full.
        return core.read_model(folder / GRAPH), None
    with (folder / WEIGHTS).open("rb") as file:
        # Private, because the library asks for memory that it may write to.
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    weights = openvino.Tensor(np.frombuffer(pages, np.uint8), shared_memory=True)
    return core.read_model((folder / GRAPH).read_bytes(), weights), pages


class OpenVinoEncoder:
    """Runs a compiled model on batches of token ids."""

    def __init__(self, model: Compiled, inputs: BatchInputs) -> None:
        self._model = model
        self._request = model.graph.create_infer_request()
        self._layout = inputs
        self.dimension = int(model.graph.output(0).get_partial_shape()[1].get_length())

    def encode(self, rows: Sequence[Row]) -> memoryview:
        vectors = self._run(self._layout.arrays(rows))
        if not np.isfinite(vectors).all():
            raise BatchFailed("a vector is not finite")
        return vectors.data.cast("B")

    def shed(self) -> None:
        self._model.graph.release_memory()

    def fastest_batch(self, max_tokens: int) -> int:
        """The smallest batch size about as fast as any other, so that short requests wait less."""
        width = min(TRY_TOKENS, max_tokens)
        speeds = [self._tokens_per_s(budget // width, width) for budget in BUDGETS]
        enough = max(speeds) * ABOUT_AS_FAST
        return next(b for b, speed in zip(BUDGETS, speeds, strict=True) if speed >= enough)

    def _tokens_per_s(self, n_rows: int, width: int) -> float:
        rows = [any_row(width)] * max(n_rows, 1)
        inputs = self._layout.arrays(rows)
        self._run(inputs)
        n_runs, began_s = 0, time.perf_counter()
        while (took_s := time.perf_counter() - began_s) < TRY_S:
            self._run(inputs)
            n_runs += 1
        return n_runs * len(rows) * width / took_s

    def _run(self, inputs: list[NDArray[np.int32]]) -> NDArray[np.float32]:
        try:
            outputs = self._request.infer(inputs, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise BatchFailed from error
        # A copy, because the library writes the next batch over its own array.
        vectors: NDArray[np.float32] = np.array(outputs[0], dtype="<f4")
        return vectors
