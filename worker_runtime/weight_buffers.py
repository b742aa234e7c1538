"""Chooses the order in which llama.cpp stores a model's matrices.

Beside the file's order it knows one with rows repacked for the vector instructions, and on
processors with AMX one in AMX's tiles; by itself it takes the first that can hold a matrix. Which
one is fastest differs between processors, weight types and releases: a Xeon computed prompts at 215
tokens/s with AMX's tiles and at 270 with repacked rows; a Zen 5 computes those of a 1.5B model in
Q4_K_M at 93 tokens/s with repacked rows and at 143 in the file's order, which is also loaded
sooner. So a product of each kind of matrix is timed in all of them, in about a tenth of a second.
"""

import ctypes
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from worker_runtime.ggml_native import CPU_DEVICE, F32, I32, Ggml
from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.gguf import GgufHeader, GgufTensor, read_gguf_headers
from worker_runtime.model_files.gguf_files import shard_paths
from worker_runtime.model_files.gguf_types import BLOCKS

# Of these, llama.cpp computes nothing but products.
MULTIPLIED = re.compile(r"(?:blk\.(\d+)\.)?((?:attn|ffn)_\w+|output)\.weight")
EXPERTS = re.compile(r"blk\.\d+\.ffn_\w+_exps\.weight")
# A request of 576 tokens, and an answer of 120, half of it beside three others: it takes so many
# products, by how many tokens they have. What a model was used for counts beside some of these.
REQUEST, N_REQUESTS = {64: 9, 4: 15, 1: 60}, 10
# As much of a matrix as it takes to tell the kernels apart.
MAX_IN, MAX_ROWS, N_RUNS = 4096, 512, 5
# Whether a buffer can hold a matrix depends on what is left beyond whole blocks and tiles.
TILE_IN, TILE_ROWS = 256, 64
# A difference below this is noise; and a load takes longer where matrices are reordered.
LEAST_GAIN = 1.1


class Kind(NamedTuple):
    """Matrices that are multiplied alike; of experts there are several in one tensor."""

    type: int  # the number of a ggml type
    n_in: int
    n_rows: int
    of_experts: bool = False


class Override(ctypes.Structure):
    """The C struct `llama_model_tensor_buft_override`: names of tensors, and their buffer type."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer", ctypes.c_void_p))


class Buffers(NamedTuple):
    """What llama.cpp has to be told.

    Args:
        extra: whether it may use other orders than the file's.
        overrides: which matrices are not in the first of the other orders that can hold them; a
            list of this kind ends with an empty entry.
    """

    extra: bool = True
    overrides: "ctypes.Array[Override] | None" = None


class Seconds(NamedTuple):
    """What the expected products with one matrix take.

    Args:
        in_file: in the file's order; not measured where there is no other.
        reordered: by the types of buffers that can hold the matrix; llama.cpp takes the first.
    """

    in_file: float
    reordered: Mapping[int, float]


Times = Mapping[Kind, Seconds]


def expected_products(seen: Mapping[int, float]) -> dict[int, float]:
    """What a model's next requests take, from what it was used for; both by numbers of tokens."""
    return {n: N_REQUESTS * count + seen.get(n, 0.0) for n, count in REQUEST.items()}


def fastest_buffers(path: Path, products: Mapping[int, float]) -> Buffers:
    """
    Args:
        path: a GGUF file, or the first one of a model.
        products: how many with each matrix are expected, by their number of tokens.
    """
    ggml = Ggml()
    device = ggml.functions.ggml_backend_dev_by_type(CPU_DEVICE)
    others = ggml.extra_buffers(device)
    if not others:
        return Buffers()
    try:
        headers = list(read_gguf_headers(shard_paths(path)))
    except (InvalidModelFile, OSError):
        # llama.cpp reads it next, and its refusal is told.
        return Buffers()
    tensors = [tensor for header in headers for tensor in header.tensors]
    kinds = {kind for tensor in tensors if (kind := kind_of(tensor))}
    times = Timing(ggml, device, products).of(kinds, others)
    if not reordering_pays(tensors, times, n_experts_used(headers[0])):
        return Buffers(extra=False)
    return Buffers(overrides=overrides(tensors, times))


def reordering_pays(tensors: Iterable[GgufTensor], times: Times, n_experts: int) -> bool:
    """Whether the expected work takes clearly less time in other orders than in the file's.

    Args:
        n_experts: how many compute a token.
    """
    counts = Counter(kind for tensor in tensors if (kind := kind_of(tensor)))
    in_file = reordered = 0.0
    for kind, n_matrices in counts.items():
        timed = times[kind]
        if timed.reordered:
            n_products = n_matrices * (n_experts if kind.of_experts else 1)
            in_file += n_products * timed.in_file
            reordered += n_products * min(timed.reordered.values())
    # Where no matrix can be reordered, llama.cpp may try.
    return in_file >= LEAST_GAIN * reordered


def overrides(tensors: Iterable[GgufTensor], times: Times) -> "ctypes.Array[Override] | None":
    """The matrices that are clearly faster in another buffer than in the one that llama.cpp takes;
    None if there are none."""
    moved = defaultdict(list)
    for tensor in tensors:
        kind = kind_of(tensor)
        if kind is None or not (seconds := times[kind].reordered):
            continue
        usual, best = next(iter(seconds)), min(seconds, key=seconds.__getitem__)
        if seconds[usual] > LEAST_GAIN * seconds[best]:
            moved[best].append(tensor.name)
    if not moved:
        return None
    entries = [Override(_pattern(names).encode(), buffer) for buffer, names in moved.items()]
    return (Override * (len(entries) + 1))(*entries)


class Timing:
    """Times products on one core, since other programs on the others would decide the result."""

    def __init__(self, ggml: Ggml, device: int, products: Mapping[int, float]) -> None:
        self._ggml = ggml
        self._expected = products
        self._call = ggml.functions
        self._device = device
        self._plain: int = self._call.ggml_backend_dev_buffer_type(device)

    def of(self, kinds: Iterable[Kind], buffers: Sequence[int]) -> Times:
        """
        Args:
            buffers: the types of those that may reorder a matrix.
        """
        backend = self._call.ggml_backend_dev_init(self._device, None)
        self._ggml.compute_with(self._device, backend, 1)
        parts = {kind: _part(kind) for kind in kinds}
        measured = {part: self._of_part(backend, part, buffers) for part in set(parts.values())}
        self._call.ggml_backend_free(backend)
        return {kind: _scaled(measured[part], part, kind) for kind, part in parts.items()}

    def _of_part(self, backend: int, kind: Kind, buffers: Sequence[int]) -> Seconds:
        seconds = {buffer: self._in_buffer(backend, kind, buffer) for buffer in buffers}
        reordered = {buffer: s for buffer, s in seconds.items() if s is not None}
        in_file = self._in_buffer(backend, kind, self._plain) if reordered else None
        return Seconds(in_file or 0.0, reordered)

    def _in_buffer(self, backend: int, kind: Kind, buffer: int) -> float | None:
        call = self._call
        with self._ggml.pool() as own, self._ggml.pool() as others:
            products = self._products(own, others, kind)
            places = ((own, buffer), (others, self._plain))
            with self._ggml.allocated(*places) as is_whole:
                supports = call.ggml_backend_dev_supports_op
                if not is_whole or not all(supports(self._device, p) for p in products.values()):
                    return None
                return sum(
                    n_times * self._seconds(backend, others, products[n])
                    for n, n_times in self._expected.items()
                )

    def _products(self, own: int, others: int, kind: Kind) -> dict[int, int]:
        """Products of a matrix in the pool `own`, by their number of tokens."""
        call, (number, n_in, n_rows, of_experts) = self._call, kind
        if not of_experts:
            weights = call.ggml_new_tensor_2d(own, number, n_in, n_rows)
            return {
                n: call.ggml_mul_mat(others, weights, call.ggml_new_tensor_2d(others, F32, n_in, n))
                for n in self._expected
            }
        weights = call.ggml_new_tensor_3d(own, number, n_in, n_rows, 2)
        return {
            n: call.ggml_mul_mat_id(
                others,
                weights,
                call.ggml_new_tensor_3d(others, F32, n_in, 1, n),
                call.ggml_new_tensor_2d(others, I32, 1, n),
            )
            for n in self._expected
        }

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


def kind_of(tensor: GgufTensor) -> Kind | None:
    """None: other things than products are computed of it, or it cannot be of its type."""
    n_per_block, _ = BLOCKS.get(tensor.type, (0, 0))
    if not n_per_block or not tensor.size_bytes or tensor.shape[0] % n_per_block:
        return None
    if len(tensor.shape) == 2 and MULTIPLIED.fullmatch(tensor.name):
        return Kind(tensor.type, *tensor.shape)
    if len(tensor.shape) == 3 and EXPERTS.fullmatch(tensor.name):
        return Kind(tensor.type, *tensor.shape[:2], of_experts=True)
    return None


def n_experts_used(header: GgufHeader) -> int:
    number = header.metadata.get(f"{header.architecture}.expert_used_count")
    return number if isinstance(number, int) else 1


def _part(kind: Kind) -> Kind:
    """A smaller matrix that the same buffers can hold."""
    n_in, n_rows = _shorter(kind.n_in, MAX_IN, TILE_IN), _shorter(kind.n_rows, MAX_ROWS, TILE_ROWS)
    return kind._replace(n_in=n_in, n_rows=n_rows)


def _scaled(seconds: Seconds, part: Kind, whole: Kind) -> Seconds:
    scale = whole.n_in * whole.n_rows / (part.n_in * part.n_rows)
    reordered = {buffer: s * scale for buffer, s in seconds.reordered.items()}
    return Seconds(seconds.in_file * scale, reordered)


def _shorter(n: int, most: int, tile: int) -> int:
    return n if n <= most else most - tile + n % tile


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
