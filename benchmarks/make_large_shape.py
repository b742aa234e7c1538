"""Writes the larger of Qwen2.5's shapes in Q4_K_M without quantizing them, which would take many
minutes: a few quantized rows are repeated through the whole model."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.make_qwen_shape import Shape, described
from worker_runtime.ggml_native import Ggml

# Numbers that are quantized; a multiple of the types' blocks, and of no matrix's width.
N_RANDOM = 256 * 4093
SUPER_BLOCK = 256
Tensor = tuple[str, tuple[int, ...]]


def write_q4_k_m(path: Path, shape: Shape, seed: int) -> None:
    """Write the file; each matrix in the type that llama.cpp gives it in Q4_K_M."""
    import gguf

    kinds = gguf.GGMLQuantizationType
    random = np.random.default_rng(seed)
    numbers = random.standard_normal(N_RANDOM, dtype=np.float32) * np.float32(shape.scale)
    rows = {kind: _quantized(numbers, int(kind)) for kind in (kinds.Q4_K, kinds.Q6_K)}
    writer = described(path, shape, gguf.LlamaFileType.MOSTLY_Q4_K_M)
    content = []
    for name, sizes in _tensors(shape):
        if len(sizes) == 1:
            kind, plain = kinds.F32, np.float32(name.endswith("norm.weight"))
            values = np.full(sizes, plain) if plain else np.resize(numbers, sizes)
        else:
            kind = kinds.Q6_K if _has_more_bits(name, shape.n_layers) else kinds.Q4_K
            n_bytes = sizes[1] // SUPER_BLOCK * len(rows[kind]) * SUPER_BLOCK // N_RANDOM
            values = np.broadcast_to(np.uint8(0), (sizes[0], n_bytes))
        content.append((kind, values))
        writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for kind, values in content:
        # One matrix at a time, so that a model that is larger than the memory can be written.
        writer.write_tensor_data(
            values if kind == kinds.F32 else np.resize(rows[kind], values.shape)
        )
    writer.close()


def _tensors(shape: Shape) -> Iterator[Tensor]:
    """Names as GGUF has them, and sizes, rows first."""
    hidden, keys = shape.hidden, shape.n_kv_heads * shape.head
    yield "token_embd.weight", (shape.n_vocab, hidden)
    yield "output_norm.weight", (hidden,)
    if not shape.tied:
        yield "output.weight", (shape.n_vocab, hidden)
    for layer in range(shape.n_layers):
        at = f"blk.{layer}"
        for projection, n_rows in (("q", hidden), ("k", keys), ("v", keys)):
            yield f"{at}.attn_{projection}.weight", (n_rows, hidden)
            yield f"{at}.attn_{projection}.bias", (n_rows,)
        yield f"{at}.attn_output.weight", (hidden, hidden)
        yield f"{at}.ffn_gate.weight", (shape.ffn, hidden)
        yield f"{at}.ffn_up.weight", (shape.ffn, hidden)
        yield f"{at}.ffn_down.weight", (hidden, shape.ffn)
        yield f"{at}.attn_norm.weight", (hidden,)
        yield f"{at}.ffn_norm.weight", (hidden,)


def _has_more_bits(name: str, n_layers: int) -> bool:
    """Whether Q4_K_M has this matrix in six bits: the head, and some layers' most sensitive ones.

    Source: llama.cpp, `llama_tensor_get_type` and its `use_more_bits`.
    """
    part, _, rest = name.partition(".")
    if part != "blk":
        return part == "output" or part == "token_embd"
    layer, _, matrix = rest.partition(".")
    eighth, number = n_layers // 8, int(layer)
    outer = number < eighth or number >= 7 * n_layers // 8 or (number - eighth) % 3 == 2
    return outer and matrix in ("attn_v.weight", "ffn_down.weight")


def _quantized(numbers: NDArray[np.float32], kind: int) -> NDArray[np.uint8]:
    ggml = Ggml().functions
    packed = np.empty(ggml.ggml_row_size(kind, numbers.size), np.uint8)
    ggml.ggml_quantize_chunk(
        kind, numbers.ctypes.data, packed.ctypes.data, 0, 1, numbers.size, None
    )
    return packed
