"""Rounds weights of matrix products to 8 bits, with a scale for each output.

They need a quarter of the memory. Only weights are rounded, once, so a text's vector does not
depend on its neighbours.
"""

from typing import Any

import numpy as np
from openvino import opset13 as ops

LARGEST = 127


def round_weights(graph: Any) -> None:
    """Round the constant right-hand sides of all matrix products in `graph`."""
    for product in graph.get_ordered_ops():
        if product.get_type_name() != "MatMul":
            continue
        weights = product.input_value(1).get_node()
        if weights.get_type_name() == "Constant":
            summed = 1 if product.get_attributes()["transpose_b"] else 0
            replacement = _rounded(weights.get_data(), summed)
            product.input(1).replace_source_output(replacement.output(0))


def _rounded(weights: Any, summed: int) -> Any:
    scale = np.abs(weights).max(axis=summed, keepdims=True) / LARGEST
    scale[scale == 0] = 1
    whole = np.round(weights / scale).astype(np.int8)
    return ops.multiply(ops.convert(ops.constant(whole), "f32"), ops.constant(scale))
