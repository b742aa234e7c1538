"""The memory of the KV cache: a tensor of keys and one of values for each layer, in blocks."""

import math
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from chat_worker.backends.sizes import BLOCK_TOKENS

ALIGNMENT_BYTES = 64  # a cache line, which is also the widest load of the kernels


class KvCache:
    """Tensors for the inputs `key_cache.N` and `value_cache.N` of a compiled model.

    The system provides their memory as blocks are written.

    Args:
        compiled: a model with paged attention.
    """

    def __init__(self, compiled: Any, n_blocks: int) -> None:
        self._tensors: dict[str, Any] = {}
        self._blocks: list[NDArray[np.uint8]] = []
        for port in compiled.inputs:
            if "cache." in (name := port.get_any_name()):
                sizes = [n_blocks, *_block_shape(port)]
                kind = port.get_element_type()
                held = _zeros(math.prod(sizes) * kind.size)
                self._tensors[name] = openvino.Tensor(held, openvino.Shape(sizes), kind)
                self._blocks.append(held.reshape(n_blocks, -1))

    @property
    def n_bytes(self) -> int:
        return sum(blocks.nbytes for blocks in self._blocks)

    def give_to(self, request: Any) -> None:
        """Let `request` compute with this cache."""
        for name, tensor in self._tensors.items():
            request.set_tensor(name, tensor)

    def copy(self, source: int, target: int) -> None:
        """Copy a block in all layers."""
        for blocks in self._blocks:
            blocks[target] = blocks[source]


def _block_shape(port: Any) -> list[int]:
    """The shape of one block; in an 8-bit cache it has room for scales."""
    rest = list(port.get_partial_shape())[1:]
    return [size.get_length() if size.is_static else BLOCK_TOKENS for size in rest]


def _zeros(n_bytes: int) -> NDArray[np.uint8]:
    held = np.zeros(n_bytes + ALIGNMENT_BYTES, np.uint8)
    start = -held.ctypes.data % ALIGNMENT_BYTES
    return held[start : start + n_bytes]
