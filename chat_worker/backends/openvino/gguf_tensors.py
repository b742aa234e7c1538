"""Reads tensors of GGUF files by the names that transformers gives them.

ggml itself converts the values of all its types to float32. Source of the names and of the order of
rows: llama.cpp's `gguf-py/gguf/tensor_mapping.py`, and `permute` in its `convert_hf_to_gguf.py`.
"""

import ctypes
import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chat_worker.architectures import LLAMA, architecture_of, head_of
from chat_worker.backends.openvino.decoder_graph import Floats
from chat_worker.backends.openvino.weights import ALL
from worker_runtime.conversion.cache import NotConvertible
from worker_runtime.ggml_native import Ggml
from worker_runtime.model_files.gguf import GgufTensor, read_gguf_headers
from worker_runtime.model_files.gguf_files import gguf_shards
from worker_runtime.model_files.gguf_types import BLOCKS

# Llama 3.1's, and Phi 3.5's for contexts up to the original one.
STRETCHES = ("model.rotary_stretch.weight", "model.short_rotary_stretch.weight")
OUTSIDE = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.rotary_stretch": "rope_freqs",
    "model.short_rotary_stretch": "rope_factors_short",
}
INSIDE = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
F32 = 0
ROTATED = ("attn_q", "attn_k")
LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
TO_FLOAT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class GgufTensors:
    """Implements `weights.Tensors`; the files are mapped.

    Args:
        first: the model's first file.
    Raises:
        InvalidModelFile, OSError: a file is damaged, or cannot be read.
    """

    def __init__(self, first: Path) -> None:
        files = gguf_shards(first)
        headers = list(read_gguf_headers(files))
        self.header = headers[0]
        self._found = {
            tensor.name: (file, tensor)
            for file, header in zip(files, headers, strict=True)
            for tensor in header.tensors
        }
        known = architecture_of(self.header) or LLAMA
        self._names = {**INSIDE, **known.gguf_names}
        self._is_reordered = known.is_reordered
        self._head = head_of(self.header)
        self._traits = Ggml().functions.ggml_get_type_traits

    @property
    def stretch(self) -> Floats | None:
        """What divides the frequencies of the rotary positions, (rotated / 2,); None: nothing."""
        return next((self.read(name) for name in STRETCHES if name in self), None)

    def __contains__(self, name: str) -> bool:
        return self._name(name) in self._found

    def shape(self, name: str) -> tuple[int, ...]:
        """Outputs and inputs of a matrix, or the length of a vector."""
        return self._tensor(name)[1].shape[::-1]

    def read(self, name: str, rows: slice = ALL) -> Floats:
        file, tensor = self._tensor(name)
        n_inputs = tensor.shape[0]
        n_per_block, block_bytes = BLOCKS.get(tensor.type, (1, 0))
        if not block_bytes or n_inputs % n_per_block:
            raise NotConvertible(f"it has weights of the type {tensor.type}")
        sizes = (math.prod(tensor.shape[1:]), n_inputs // n_per_block * block_bytes)
        packed = np.memmap(file, np.uint8, "r", tensor.offset, sizes)
        if not self._is_rotated(name):
            values = self._floats(tensor.type, packed[rows], n_inputs)
            return values if len(tensor.shape) > 1 else values.reshape(-1)
        if len(tensor.shape) > 1:
            return self._floats(tensor.type, packed[self._order(sizes[0])[rows]], n_inputs)
        return self._floats(tensor.type, packed, n_inputs).reshape(-1)[self._order(n_inputs)]

    def _tensor(self, name: str) -> tuple[Path, GgufTensor]:
        found = self._found.get(self._name(name))
        if found is None:
            raise NotConvertible(f"it has no tensor {name}")
        return found

    def _floats(self, kind: int, packed: NDArray[np.uint8], n_inputs: int) -> Floats:
        packed = np.ascontiguousarray(packed)
        if kind == F32:
            return packed.view(np.float32)
        values = np.empty((len(packed), n_inputs), np.float32)
        convert = TO_FLOAT(self._traits(kind).contents.to_float)
        convert(packed.ctypes.data, values.ctypes.data, values.size)
        return values

    def _is_rotated(self, name: str) -> bool:
        return self._is_reordered and self._name(name).split(".")[-2] in ROTATED

    def _name(self, name: str) -> str:
        """The name in the file of what transformers names `name`; a name that no file has if there
        is none."""
        stem, _, kind = name.rpartition(".")
        if inside := LAYER.fullmatch(stem):
            return f"blk.{inside[1]}.{self._names.get(inside[2], '?')}.{kind}"
        return f"{OUTSIDE.get(stem, '?')}.{kind}"

    def _order(self, n_rows: int) -> NDArray[np.int64]:
        """Where the rows are that transformers has one after the other: llama.cpp rotates
        neighbours in a head, transformers its two halves."""
        return np.arange(n_rows).reshape(-1, self._head // 2, 2).swapaxes(1, 2).reshape(-1)
