"""A decoder's weights as nodes of its graph: as they are, or rounded to 8 or 4 bits.

Source of the rounding to 4 bits: `quantize_row_q4_0_ref` in ggml's `ggml-quants.c`, so that files
in Q4_0 keep their values.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops

from chat_worker.backends.openvino.decoder_graph import Floats

LARGEST = 127
# Of weights in 4 bits: one scale for so many.
GROUP = 32
SMALLEST_OF_4_BITS = -8
ALL = slice(None)
# Values that are in memory in float32 at once while a matrix is rounded.
MAX_VALUES = 1 << 24


class Tensors(Protocol):
    """A model's tensors by the names that transformers gives them."""

    def __contains__(self, name: str) -> bool: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def read(self, name: str, rows: slice = ALL) -> Floats:
        """The values of a vector, or of some rows of a matrix, in float32.

        Raises:
            NotConvertible: there is no such tensor, or its type is another.
        """


class DecoderWeights:
    """Implements `decoder_graph.Weights`.

    Args:
        bits: of the numbers in matrices. 8: with a scale for each row. 4: with one for each group
            in it, but the embedding and the output layer have 8.
        is_tied: the output layer uses the embedding's weights, whatever the files hold.
    """

    def __init__(self, tensors: Tensors, *, bits: int, is_tied: bool) -> None:
        self._tensors = tensors
        self._bits = bits
        self._is_tied = is_tied
        # The library's constants of 4 bits use this memory.
        self._packed: list[NDArray[np.uint8]] = []

    def __contains__(self, name: str) -> bool:
        return name in self._tensors and not (self._is_tied and name == "lm_head.weight")

    def vector(self, name: str) -> Floats:
        return self._tensors.read(name)

    def matrix(self, name: str) -> Any:
        """Rounded in the forms that the CPU plugin recognises as compressed weights."""
        if self._bits == 32:
            return ops.constant(self._tensors.read(name))
        n_rows, n_columns = self._tensors.shape(name)
        if self._bits == 4 and name.startswith("model.layers.") and not n_columns % GROUP:
            return self._in_4_bits(name, n_rows, n_columns)
        whole = np.empty((n_rows, n_columns), np.int8)
        scales = np.empty((n_rows, 1), np.float32)
        for rows, values in self._parts(name):
            scale = np.abs(values).max(axis=1, keepdims=True) / LARGEST
            scale[scale == 0] = 1
            whole[rows] = np.round(values / scale)
            scales[rows] = scale
        return ops.multiply(ops.convert(ops.constant(whole), "f32"), ops.constant(scales))

    def _in_4_bits(self, name: str, n_rows: int, n_columns: int) -> Any:
        n_groups = n_columns // GROUP
        packed = np.empty((n_rows, n_columns // 2), np.uint8)
        self._packed.append(packed)
        scales = np.empty((n_rows, n_groups, 1), np.float16)
        for rows, values in self._parts(name):
            groups = values.reshape(-1, n_groups, GROUP)
            at = np.abs(groups).argmax(axis=2, keepdims=True)
            scale = np.take_along_axis(groups, at, 2) / SMALLEST_OF_4_BITS
            scales[rows] = scale
            scale[scale == 0] = 1
            whole = np.clip(np.floor(groups / scale + 8.5), 0, 15).astype(np.uint8) ^ 8
            pairs = whole.reshape(len(values), -1, 2)
            packed[rows] = pairs[..., 0] | pairs[..., 1] << 4
        shape = openvino.Shape([n_rows, n_groups, GROUP])
        whole = ops.constant(openvino.Tensor(packed, shape, openvino.Type.i4))
        scaled = ops.multiply(ops.convert(whole, "f16"), ops.constant(scales))
        flat = ops.reshape(scaled, ops.constant(np.array([n_rows, n_columns])), False)
        return ops.convert(flat, "f32")

    def _parts(self, name: str) -> Iterator[tuple[slice, Floats]]:
        """A matrix in parts that fit into memory in float32."""
        n_rows, n_columns = self._tensors.shape(name)
        n_at_once = max(MAX_VALUES // n_columns, 1)
        for start in range(0, n_rows, n_at_once):
            rows = slice(start, min(start + n_at_once, n_rows))
            yield rows, self._tensors.read(name, rows)
