"""Computes a step's items in one forward pass of a transformers model."""

from collections.abc import Callable
from typing import Any

import torch

from chat_worker.backends.transformers.cache import Packing, SlotCache, Span
from chat_worker.backends.transformers.slot_states import TransformersSlotStates
from chat_worker.engine.runner import (
    CacheOp,
    ForkSlot,
    Limits,
    RunFailed,
    ScheduledTokens,
    TruncateSlot,
)
from chat_worker.engine.sampling import LogitsRow
from common.freed_memory import return_freed_memory


class TransformersRunner:
    """One model, and a slot of keys and values for each running or cached sequence.

    Args:
        model: a causal language model whose attention is `cache.attend`.
        n_threads: the number of torch's threads, evaluated before each step.
    """

    def __init__(self, model: Any, limits: Limits, n_threads: Callable[[], int]) -> None:
        self._model = model
        self._slots = [SlotCache() for _ in range(limits.n_slots)]
        self._limits = limits
        self._n_threads = n_threads

    @property
    def limits(self) -> Limits:
        return self._limits

    def apply(self, op: CacheOp) -> None:
        match op:
            case TruncateSlot(slot, length):
                self._slots[slot].cut(length)
            case ForkSlot(source, target, length):
                self._slots[target] = self._slots[source].copy(length)

    def run(self, items: list[ScheduledTokens]) -> list[LogitsRow]:
        n_threads = self._n_threads()
        if torch.get_num_threads() != n_threads:
            # torch keeps this number for each thread.
            torch.set_num_threads(n_threads)
        try:
            rows = self._forward(items)
        except torch.AcceleratorError:
            # The GPU computes nothing more for this process, so it has to end.
            raise
        except (RuntimeError, IndexError, MemoryError) as error:
            raise RunFailed(f"torch could not compute the batch: {error}") from error
        for item in items:
            self._slots[item.slot].length = item.start + len(item.tokens)
        return rows

    def length(self, slot: int) -> int:
        return self._slots[slot].length

    @property
    def states(self) -> TransformersSlotStates:
        """Copies the slots."""
        return TransformersSlotStates(self._slots, self._model.dtype, self._model.device)

    @property
    def cache_bytes(self) -> int:
        """The memory of all slots."""
        return sum(slot.n_bytes for slot in self._slots)

    def shed(self) -> None:
        # The slots freed their memory when they were truncated.
        return_freed_memory()

    def close(self) -> None:
        self._slots.clear()
        self._model = None

    @torch.inference_mode()
    def _forward(self, items: list[ScheduledTokens]) -> list[LogitsRow]:
        tokens: list[int] = []
        positions: list[int] = []
        wanted: list[int] = []
        spans: list[Span] = []
        for item in items:
            begin = len(tokens)
            tokens += item.tokens
            end = len(tokens)
            positions += range(item.start, item.start + end - begin)
            wanted += range(end - item.n_rows, end)
            spans.append(Span(self._slots[item.slot], item.start, begin, end))
        device = self._model.device
        output = self._model(
            input_ids=torch.tensor([tokens], device=device),
            position_ids=torch.tensor([positions], device=device),
            logits_to_keep=torch.tensor(wanted, dtype=torch.long, device=device),
            use_cache=False,
            packing=Packing(spans),
        )
        return list(output.logits[0].float().cpu().numpy())
