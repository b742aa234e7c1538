"""A decoder's weights as nodes of its graph: as they are, or rounded to 8 bits."""

from typing import Any, Protocol

import numpy as np
from openvino import opset13 as ops

from chat_worker.backends.openvino.decoder_graph import Floats

LARGEST = 127


class Tensors(Protocol):
    """A model's tensors by the names that transformers gives them."""

    def __contains__(self, name: str) -> bool: ...

    def read(self, name: str) -> Floats: ...


class DecoderWeights:
    """Implements `decoder_graph.Weights`.

    Args:
        rounded: matrices are stored in 8 bits, with a scale for each row.
        is_tied: the output layer uses the embedding's weights, whatever the files hold.
    """

    def __init__(self, tensors: Tensors, *, rounded: bool, is_tied: bool) -> None:
        self._tensors = tensors
        self._rounded = rounded
        self._is_tied = is_tied

    def __contains__(self, name: str) -> bool:
        return name in self._tensors and not (self._is_tied and name == "lm_head.weight")

    def vector(self, name: str) -> Floats:
        return self._tensors.read(name)

    def matrix(self, name: str) -> Any:
        values = self._tensors.read(name)
        return _rounded(values) if self._rounded else ops.constant(values)


def _rounded(values: Floats) -> Any:
    """The form that the CPU plugin recognises as compressed weights."""
    scale = np.abs(values).max(axis=1, keepdims=True) / LARGEST
    scale[scale == 0] = 1
    whole = np.round(values / scale).astype(np.int8)
    return ops.multiply(ops.convert(ops.constant(whole), "f32"), ops.constant(scale))
