"""oneDNN's matrix products with weights that stay in its own layout: torch's private operators.

torch offers this only to its compiler; the public `torch.utils.mkldnn` converts all values to
another kind of tensor and back at each product. So this module uses three operators of
`torch.ops.mkldnn`, and `torch.cpu._is_avx512_bf16_supported`, whose public form
(`torch.cpu.get_capabilities`) is missing in the oldest supported torch.

Tested with torch 2.13.0; `tests/unit/chat_worker/test_onednn.py` detects changes.
"""

import platform

import torch
from torch import Tensor


def reordered(weight: Tensor) -> Tensor:
    """`weight`, (n_outputs, n_inputs), in oneDNN's layout; it can be neither copied nor saved."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return packed


def linear(values: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """(…, n_inputs) to (…, n_outputs), with weights from `reordered`."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(values, packed, bias, "none", [], "")
    return product


def can_reorder(kind: torch.dtype) -> bool:
    """Whether oneDNN has a layout of its own for products in this dtype on this CPU."""
    if not (_is_x86() and torch.backends.mkldnn.is_available()):
        return False
    return kind == torch.float32 or (kind == torch.bfloat16 and _knows_bfloat16())


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products in bfloat16."""
    if _is_x86():
        return bool(torch.cpu._is_avx512_bf16_supported())
    return torch.backends.mkldnn.is_available() and _knows_bfloat16()


def _knows_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")
