"""Copies of slots as safetensors: the keys and values of each layer."""

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from chat_worker.backends.transformers.cache import SlotCache


class TransformersSlotStates:
    """Implements `chat_worker.engine.runner.SlotStates`.

    Args:
        slots: the runner's.
        dtype, device: of the keys and values in them.
    """

    def __init__(self, slots: list[SlotCache], dtype: torch.dtype, device: torch.device) -> None:
        self._slots = slots
        self._dtype = dtype
        self._device = device

    def size(self, slot: int, n_tokens: int) -> int:
        held = [tensor for pair in self._slots[slot].layers.values() for tensor in pair]
        return sum(tensor[:, :n_tokens].numel() * tensor.element_size() for tensor in held)

    def save(self, slot: int, n_tokens: int) -> memoryview | None:
        tensors = {
            f"{layer}.{kind}": tensor[:, :n_tokens].contiguous()
            for layer, pair in self._slots[slot].layers.items()
            for kind, tensor in zip(("keys", "values"), pair, strict=True)
        }
        return memoryview(save(tensors))

    def restore(self, state: memoryview, slot: int) -> bool:
        try:
            tensors = load(bytes(state))
        except SafetensorError:
            return False
        if any(tensor.dtype != self._dtype for tensor in tensors.values()):
            return False
        layers = {int(name.partition(".")[0]) for name in tensors}
        moved = {name: tensor.to(self._device) for name, tensor in tensors.items()}
        self._slots[slot].layers = {
            layer: (moved[f"{layer}.keys"], moved[f"{layer}.values"]) for layer in layers
        }
        self._slots[slot].length = next(iter(moved.values())).shape[1]
        return True
