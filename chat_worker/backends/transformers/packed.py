"""Linear layers whose weights are stored in the layout in which the CPU multiplies them.

torch converts weights to that layout for each product; if it is done once, a decoding step takes
about half the time. The results are the same.
"""

import torch
from torch import Tensor, nn

from chat_worker.backends.transformers import onednn


class PackedLinear(nn.Module):
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias
        # Not a buffer, because it can be neither copied nor saved.
        self._packed = onednn.reordered(linear.weight.detach())

    def forward(self, values: Tensor) -> Tensor:
        return onednn.linear(values, self._packed, self.bias)


@torch.inference_mode()
def pack_linears(model: nn.Module, stored: torch.dtype | None) -> None:
    """Replace the linear layers of a model on the CPU.

    They are replaced one at a time, and nothing may keep a reference to a replaced layer: otherwise
    all weights would be in memory twice.

    Args:
        stored: the dtype in the model's file; parameters of another dtype were converted from it.
            None: unknown.
    """
    for parent in [module for module in model.modules() if not _is_packable(module)]:
        for name in [name for name, child in parent.named_children() if _is_packable(child)]:
            setattr(parent, name, PackedLinear(getattr(parent, name)))
    for parameter in model.parameters():
        # A reference to a part of the mapped file would keep all of the file's pages in memory.
        if stored in (None, parameter.dtype):
            parameter.data = parameter.data.clone()


def _is_packable(module: nn.Module) -> bool:
    return type(module) is nn.Linear and onednn.can_reorder(module.weight.dtype)
