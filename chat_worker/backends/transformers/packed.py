"""Linear layers with their weights in the order that the CPU multiplies them in.

torch brings weights into that order anew for each product; done once, a decoding step takes about
half the time. The results are the same.
"""

import torch
from torch import Tensor, nn

from chat_worker.backends.transformers.precision import can_pack


class PackedLinear(nn.Module):
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias
        # No buffer: it is opaque, and can be neither copied nor saved.
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def forward(self, values: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            values, self._packed, self.bias, "none", [], ""
        )
        return product


@torch.inference_mode()
def pack_linears(model: nn.Module) -> None:
    """Replace the linear layers of a model on the CPU."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear and can_pack(child.weight.dtype):
                setattr(parent, name, PackedLinear(child))
    # What is left moves into memory of its own: as parts of the mapped file it would keep all of
    # the file's pages.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
