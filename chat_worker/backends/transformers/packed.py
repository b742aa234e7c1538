"""Linear layers with their weights in the order that the CPU multiplies them in.

torch brings weights into that order anew for each product; done once, a decoding step takes about
half the time. The results are the same.
"""

import torch
from torch import Tensor, nn

from chat_worker.backends.transformers import onednn


class PackedLinear(nn.Module):
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias
        # No buffer: it can be neither copied nor saved.
        self._packed = onednn.reordered(linear.weight.detach())

    def forward(self, values: Tensor) -> Tensor:
        return onednn.linear(values, self._packed, self.bias)


@torch.inference_mode()
def pack_linears(model: nn.Module, stored: torch.dtype | None) -> None:
    """Replace the linear layers of a model on the CPU.

    One at a time: nothing here may hold on to a layer that was replaced, or all weights are there
    twice.

    Args:
        stored: what the model's file has; parameters in other numbers were converted from it. None:
            unknown.
    """
    for parent in [module for module in model.modules() if not _is_packable(module)]:
        for name in [name for name, child in parent.named_children() if _is_packable(child)]:
            setattr(parent, name, PackedLinear(getattr(parent, name)))
    for parameter in model.parameters():
        # A part of the mapped file would keep all of the file's pages.
        if stored in (None, parameter.dtype):
            parameter.data = parameter.data.clone()


def _is_packable(module: nn.Module) -> bool:
    return type(module) is nn.Linear and onednn.can_reorder(module.weight.dtype)
