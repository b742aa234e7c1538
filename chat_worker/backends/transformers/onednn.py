"""oneDNN's matrix products with weights that stay in its own order: torch's private operators.

torch offers this to its compiler only, and `torch.utils.mkldnn`, which is public, copies all values
into tensors of another kind and back at each product. So this leans on three operators of
`torch.ops.mkldnn` and on `torch.cpu._is_avx512_bf16_supported`, whose public form
(`torch.cpu.get_capabilities`) the oldest torch that we take has not got.

Tried with torch 2.13.0; `tests/unit/chat_worker/test_onednn.py` guards it.
"""

import platform

import torch
from torch import Tensor


def reordered(weight: Tensor) -> Tensor:
    """`weight`, (n_outputs, n_inputs), in oneDNN's order; it can be neither copied nor saved."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return packed


def linear(values: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """(…, n_inputs) to (…, n_outputs) by what `reordered` gave."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(values, packed, bias, "none", [], "")
    return product


def can_reorder(kind: torch.dtype) -> bool:
    """Whether oneDNN multiplies weights of this format on this CPU in an order of its own."""
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
