"""Chooses the order in which llama.cpp stores a model's matrices.

Beside the file's order it knows one with rows repacked for the vector instructions, and on
processors with AMX one in AMX's tiles; by itself it takes the first that can hold a matrix. Which
one is fastest differs between processors, weight types and releases: a Xeon computed prompts at 215
tokens/s with AMX's tiles and at 270 with repacked rows; a Zen 5 computes those of a 1.5B model in
Q4_K_M at 93 tokens/s with repacked rows and at 143 in the file's order, which is also loaded
sooner, but gives answers more slowly. So products of each kind of matrix are timed in all of them,
in up to a quarter of a second, and the order is chosen for what the model is used for.
"""

import ctypes
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from worker_runtime.ggml_native import CPU_DEVICE, Ggml
from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.gguf import GgufHeader, GgufTensor, read_gguf_headers
from worker_runtime.model_files.gguf_files import shard_paths
from worker_runtime.model_files.gguf_types import BLOCKS
from worker_runtime.product_timing import GROUP, PIECE, Kind, Times, Timing

# Of these, llama.cpp computes nothing but products.
MULTIPLIED = re.compile(r"(?:blk\.(\d+)\.)?((?:attn|ffn)_\w+|output)\.weight")
EXPERTS = re.compile(r"blk\.\d+\.ffn_\w+_exps\.weight")
# A request of 576 tokens, and an answer of 120, half of it beside three others: it takes so many
# products, by how many tokens they have. What a model was used for counts beside some of these.
REQUEST, N_REQUESTS = {PIECE: 9, GROUP: 15, 1: 60}, 3
# A difference below this is noise; and a load takes longer where matrices are reordered.
LEAST_GAIN = 1.1


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
    counts = Counter(kind for tensor in tensors if (kind := kind_of(tensor)))
    times = Timing(ggml, device, products).of(counts, others)
    if not reordering_pays(counts, times, n_experts_used(headers[0])):
        return Buffers(extra=False)
    return Buffers(overrides=overrides(tensors, times))


def reordering_pays(counts: Mapping[Kind, int], times: Times, n_experts: int) -> bool:
    """Whether the expected work takes clearly less time in other orders than in the file's.

    Args:
        counts: how many matrices of each kind there are.
        n_experts: how many compute a token.
    """
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
