"""The memory of the KV cache: a tensor of keys and one of values for each layer, in blocks."""

import math
from collections.abc import Iterator
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

    @property
    def layout(self) -> str:
        """What the bytes of a block mean."""
        return " ".join(
            f"{name} {tensor.element_type.get_type_name()} {list(tensor.shape)[1:]}"
            for name, tensor in self._tensors.items()
        )

    @property
    def block_bytes(self) -> int:
        """The size of a block in all layers."""
        return sum(blocks.shape[1] for blocks in self._blocks)

    def read(self, numbers: list[int], target: NDArray[np.uint8]) -> None:
        """Copy blocks to `target`, (n_blocks * block_bytes,), layer by layer."""
        for blocks, part in zip(self._blocks, self._parts(len(numbers), target), strict=True):
            # The other mode copies twice.
            np.take(blocks, numbers, axis=0, out=part, mode="clip")

    def write(self, numbers: list[int], source: NDArray[np.uint8]) -> None:
        """Fill blocks with what `read` copied."""
        for blocks, part in zip(self._blocks, self._parts(len(numbers), source), strict=True):
            blocks[numbers] = part

    def _parts(self, n_blocks: int, whole: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        """The part of each layer, (n_blocks, its bytes of a block)."""
        start = 0
        for blocks in self._blocks:
            end = start + n_blocks * blocks.shape[1]
            yield whole[start:end].reshape(n_blocks, -1)
            start = end


def _block_shape(port: Any) -> list[int]:
    """The shape of one block; in an 8-bit cache it has room for scales."""
    rest = list(port.get_partial_shape())[1:]
    return [size.get_length() if size.is_static else BLOCK_TOKENS for size in rest]


def _zeros(n_bytes: int) -> NDArray[np.uint8]:
    held = np.zeros(n_bytes + ALIGNMENT_BYTES, np.uint8)
    start = -held.ctypes.data % ALIGNMENT_BYTES
    return held[start : start + n_bytes]
