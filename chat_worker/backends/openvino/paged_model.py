"""Turns a stateful model into one with paged attention, and compiles it.

The transformation is a private function of OpenVINO, which GenAI uses for its own continuous
batching: attention over a state becomes attention over blocks, whose numbers are inputs. See
docs/library-internals.md.
"""

from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops
from openvino._offline_transformations import paged_attention_transformation

WANTED = "wanted"


def paged(model: openvino.Model) -> openvino.Model:
    """Change `model` in place: its attention is paged, and it computes logits for the tokens in
    `wanted` only.

    Raises:
        RuntimeError: its attention has a form that the transformation does not know.
    """
    paged_attention_transformation(model)
    product = _last_product(model)
    wanted = ops.parameter([-1], np.int64, name=WANTED)
    wanted.output(0).get_tensor().set_names({WANTED})
    rows = ops.gather(product.input_value(0), wanted, ops.constant(np.array(0, np.int64)))
    product.input(0).replace_source_output(rows.output(0))
    model.add_parameters([wanted])
    model.validate_nodes_and_infer_types()
    return model


def _last_product(model: openvino.Model) -> Any:
    """The matrix product with the output layer."""
    node = model.get_results()[0].input_value(0).get_node()
    while node.get_type_name() != "MatMul":
        if not node.get_input_size():
            raise RuntimeError("the model's logits are not a matrix product")
        node = node.input_value(0).get_node()
    return node
