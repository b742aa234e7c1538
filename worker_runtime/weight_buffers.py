"""Chooses the order in which llama.cpp stores a model's matrices, where it knows several.

A processor with AMX has two buffers for weights: one in AMX's tiles, and one with rows repacked for
the vector instructions. llama.cpp takes the first that can hold a matrix. Which one is faster
differs from one processor to the next (a Xeon computed prompts at 215 tokens/s with AMX's and at
270 with the other), so a product of each kind of matrix is timed in both. That takes a tenth of a
second, and only where there are two.
"""

import ctypes
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from worker_runtime.ggml_native import CPU_DEVICE, F32, POOL_BYTES, Ggml, PoolParams
from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.gguf import GgufTensor, read_gguf_header

# Of these, llama.cpp computes nothing but products. Experts are in a third dimension, which AMX's
# buffer does not hold.
MULTIPLIED = re.compile(r"(?:blk\.(\d+)\.)?((?:attn|ffn)_\w+|output)\.weight")
# As many rows as it takes to tell the kernels apart. A request of 600 tokens with an answer of 120
# takes so many products with so many tokens each.
MAX_ROWS, N_RUNS = 1024, 5
REQUEST = {64: 9, 1: 120}
ROWS_OF_TILES = 64  # whether a buffer can hold a matrix depends on the rows beyond whole tiles
# A difference below this is noise.
LEAST_GAIN = 1.1

Kind = tuple[int, int, int]  # the weight type, and the numbers of columns and rows


class Override(ctypes.Structure):
    """The C struct `llama_model_tensor_buft_override`: names of tensors, and their buffer type."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer", ctypes.c_void_p))


def faster_buffers(path: Path) -> "ctypes.Array[Override] | None":
    """What llama.cpp has to be told to store each matrix of a file where it is multiplied fastest.

    None: it does so by itself. A list of this kind ends with an empty entry.
    """
    ggml = Ggml()
    device = ggml.functions.ggml_backend_dev_by_type(CPU_DEVICE)
    buffers = ggml.extra_buffers(device)
    if len(buffers) < 2:
        return None
    try:
        tensors = read_gguf_header(path).tensors
    except InvalidModelFile:
        # llama.cpp reads it next, and its refusal is told.
        return None
    multiplied = [each for each in tensors if is_multiplied(each)]
    times = Timing(ggml, device).of({kind_of(each) for each in multiplied}, buffers)
    return overrides(multiplied, times)


def overrides(
    tensors: Iterable[GgufTensor], times: Mapping[Kind, Mapping[int, float]]
) -> "ctypes.Array[Override] | None":
    """
    Args:
        times: of a request, in seconds, by the buffer types that can hold such a matrix; the first
            is the one that llama.cpp would take.
    """
    moved = defaultdict(list)
    for tensor in tensors:
        of_kind = times[kind_of(tensor)]
        best = min(of_kind, key=of_kind.__getitem__, default=0)
        if best and of_kind[next(iter(of_kind))] > LEAST_GAIN * of_kind[best]:
            moved[best].append(tensor.name)
    if not moved:
        return None
    entries = [Override(_pattern(names).encode(), buffer) for buffer, names in moved.items()]
    return (Override * (len(entries) + 1))(*entries)


class Timing:
    """Times products on one core, since other programs on the others would decide the result."""

    def __init__(self, ggml: Ggml, device: int) -> None:
        self._ggml = ggml
        self._call = ggml.functions
        self._device = device

    def of(self, kinds: Iterable[Kind], buffers: Sequence[int]) -> dict[Kind, dict[int, float]]:
        """Seconds of a request by kind and buffer type, without buffers that cannot hold it."""
        backend = self._call.ggml_backend_dev_init(self._device, None)
        self._ggml.compute_with(self._device, backend, 1)
        found: dict[Kind, dict[int, float]] = {}
        for kind in kinds:
            seconds = {buffer: self._of_request(backend, kind, buffer) for buffer in buffers}
            found[kind] = {buffer: s for buffer, s in seconds.items() if s is not None}
        self._call.ggml_backend_free(backend)
        return found

    def _of_request(self, backend: int, kind: Kind, buffer: int) -> float | None:
        call = self._call
        number, n_in, n_rows = kind
        if n_rows > MAX_ROWS:
            n_rows = MAX_ROWS - ROWS_OF_TILES + n_rows % ROWS_OF_TILES
        own, others = (call.ggml_init(PoolParams(POOL_BYTES, None, True)) for _ in range(2))
        weights = call.ggml_new_tensor_2d(own, number, n_in, n_rows)
        tokens = {n: call.ggml_new_tensor_2d(others, F32, n_in, n) for n in REQUEST}
        products = {n: call.ggml_mul_mat(others, weights, tokens[n]) for n in REQUEST}
        plain = call.ggml_backend_dev_buffer_type(self._device)
        places = ((own, buffer), (others, plain))
        made = [call.ggml_backend_alloc_ctx_tensors_from_buft(*place) for place in places]
        found: float | None = None
        supports = call.ggml_backend_dev_supports_op
        if all(made) and all(supports(self._device, product) for product in products.values()):
            self._clear(weights, call.ggml_row_size(number, n_in) * n_rows)
            for n, vectors in tokens.items():
                self._clear(vectors, 4 * n_in * n)
            found = sum(
                times * self._seconds(backend, others, products[n]) for n, times in REQUEST.items()
            )
        for each in filter(None, made):
            call.ggml_backend_buffer_free(each)
        for pool in (own, others):
            call.ggml_free(pool)
        return found

    def _clear(self, tensor: int, n_bytes: int) -> None:
        self._call.ggml_backend_tensor_set(tensor, bytes(n_bytes), 0, n_bytes)

    def _seconds(self, backend: int, pool: int, product: int) -> float:
        # Windows counts a thread's own time in steps of 16 ms.
        clock = time.perf_counter if sys.platform == "win32" else time.thread_time
        graph = self._call.ggml_new_graph(pool)
        self._call.ggml_build_forward_expand(graph, product)
        times = []
        for _ in range(N_RUNS):
            began_s = clock()
            if self._call.ggml_backend_graph_compute(backend, graph):
                raise RuntimeError("ggml could not compute a product")
            times.append(clock() - began_s)
        return min(times)


def is_multiplied(tensor: GgufTensor) -> bool:
    return len(tensor.shape) == 2 and MULTIPLIED.fullmatch(tensor.name) is not None


def kind_of(tensor: GgufTensor) -> Kind:
    n_in, n_rows = tensor.shape
    return tensor.type, n_in, n_rows


def _pattern(names: Iterable[str]) -> str:
    """A regular expression for exactly these tensors; llama.cpp compiles it once for each tensor,
    so that it must be short."""
    layers: dict[str, list[str]] = defaultdict(list)
    for name in names:
        matched: Any = MULTIPLIED.fullmatch(name)
        layers[matched[2]].append(matched[1] or "")
    same: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for what, where in layers.items():
        same[tuple(where)].append(what)
    parts = [
        (rf"blk\.({'|'.join(where)})\." if where != ("",) else "") + f"({'|'.join(whats)})"
        for where, whats in same.items()
    ]
    return rf"^({'|'.join(parts)})\.weight$"
