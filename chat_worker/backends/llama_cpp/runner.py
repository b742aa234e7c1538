"""Fills llama.cpp's batches from a plan, decodes them, and hands out the logits rows."""

import ctypes
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chat_worker.backends.llama_cpp.context import LlamaContext
from chat_worker.engine.runner import CacheOp, Fork, Item, Limits, RunFailed, Truncate
from chat_worker.engine.sampling import Row
from worker_runtime.memory.trim import return_freed_memory


class LlamaRunner:
    """One model and one context with the KV cache of all slots.

    Args:
        native: the binding's module of C functions.
        model, context: owned from here on; freed by `close`.
        n_tile: tokens from which on `apart` parts a batch; 0: never.
    """

    def __init__(
        self, native: Any, model: Any, context: LlamaContext, limits: Limits, n_tile: int = 0
    ) -> None:
        self._native = native
        self._model = model
        self._context = context
        self._batch = _Batch(native, limits.n_batch)
        self._limits = limits
        self._n_tile = n_tile

    @property
    def limits(self) -> Limits:
        return self._limits

    def apply(self, op: CacheOp) -> None:
        match op:
            case Truncate(slot, length):
                if not self._context.is_there:
                    return
                start = length if length else -1
                if not self._native.llama_memory_seq_rm(self._context.memory, slot, start, -1):
                    raise RuntimeError(f"llama.cpp did not cut slot {slot} to {length} tokens")
            case Fork(source, target, length):
                self._fork(source, target, length)

    def run(self, items: list[Item]) -> list[Row]:
        rows: dict[Item, list[Row]] = {}
        *first, last = self._batches(items)
        for batch in first:
            # The next batch overwrites these rows.
            rows |= {item: [row.copy() for row in own] for item, own in self._decode(batch)}
        rows |= dict(self._decode(last))
        return [row for item in items for row in rows[item]]

    def length(self, slot: int) -> int:
        if not self._context.is_there:
            return 0
        return int(self._native.llama_memory_seq_pos_max(self._context.memory, slot)) + 1

    def shed(self) -> None:
        self._context.free()
        return_freed_memory()

    def close(self) -> None:
        self._context.free()
        self._native.llama_model_free(self._model)

    def _fork(self, source: int, target: int, length: int) -> None:
        if self._limits.shares_cells:
            self._native.llama_memory_seq_cp(self._context.memory, source, target, 0, length)
            return
        # Slots with cells of their own are copied whole or not at all.
        self._native.llama_memory_seq_cp(self._context.memory, source, target, -1, -1)
        self.apply(Truncate(target, length))

    def _batches(self, items: list[Item]) -> list[list[Item]]:
        limits = self._limits
        if not limits.shares_cells:
            # llama.cpp computes those together whose slots follow one another in the batch, too.
            items = sorted(items, key=lambda item: item.slot)
        if not self._n_tile:
            return [items]
        return apart(
            items, self._n_tile, self._n_tile - 1 if limits.shares_cells else limits.n_batch
        )

    def _decode(self, items: list[Item]) -> Iterator[tuple[Item, list[Row]]]:
        wanted = iter(self._batch.fill(items))
        code = self._native.llama_decode(self._context.handle, self._batch.struct)
        if code:
            raise RunFailed(f"llama_decode returned {code}")
        for item in items:
            yield item, [self._row(index) for index in islice(wanted, item.n_rows)]

    def _row(self, index: int) -> Row:
        pointer = self._native.llama_get_logits_ith(self._context.handle, index)
        if not pointer:
            raise RunFailed(f"llama.cpp has no logits for token {index} of the batch")
        address = ctypes.addressof(pointer.contents)
        block = (ctypes.c_float * self._limits.n_vocab).from_address(address)
        row: Row = np.ctypeslib.as_array(block)
        return row


def apart(items: list[Item], n_tile: int, n_together: int) -> list[list[Item]]:
    """The batches to compute the items in; those of `n_tile` tokens and more go by themselves.

    From so many tokens on, llama.cpp's attention takes the tokens of a batch in tiles, which rounds
    otherwise, and in one pool of cells all of a tile attend to the cells of each sequence in it.
    By itself a prompt comes out the same whatever else is computed, and costs no more than it must.

    Args:
        n_together: most tokens of a batch of shorter ones.
    """
    long = [[item] for item in items if item.size >= n_tile]
    short: list[list[Item]] = []
    room = 0
    for item in items:
        if item.size >= n_tile:
            continue
        if item.size > room:
            short.append([])
            room = n_together
        short[-1].append(item)
        room -= item.size
    return long + short


class _Batch:
    """A `llama_batch` over numpy arrays of ours, so that it is filled by slices."""

    def __init__(self, native: Any, capacity: int) -> None:
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._n_slots = np.ones(capacity, np.int32)
        self._slots = np.zeros(capacity, np.int32)
        addresses = self._slots.ctypes.data + 4 * np.arange(capacity, dtype=np.uint64)
        self._slot_addresses: NDArray[np.uint64] = addresses.astype(np.uint64)
        self._wanted = np.zeros(capacity, np.int8)

        def pointer(array: NDArray[Any], kind: Any) -> Any:
            return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))

        self.struct = native.llama_batch()
        self.struct.token = pointer(self._tokens, ctypes.c_int32)
        self.struct.pos = pointer(self._positions, ctypes.c_int32)
        self.struct.n_seq_id = pointer(self._n_slots, ctypes.c_int32)
        self.struct.seq_id = pointer(self._slot_addresses, ctypes.POINTER(ctypes.c_int32))
        self.struct.logits = pointer(self._wanted, ctypes.c_int8)

    def fill(self, items: list[Item]) -> list[int]:
        """Write the items; return the batch indices whose logits are wanted, in order."""
        wanted: list[int] = []
        at = 0
        for item in items:
            tokens = item.tokens
            end = at + len(tokens)
            self._tokens[at:end] = tokens
            self._positions[at:end] = np.arange(item.start, item.start + len(tokens))
            self._slots[at:end] = item.slot
            self._wanted[at:end] = 0
            self._wanted[end - item.n_rows : end] = 1
            wanted.extend(range(end - item.n_rows, end))
            at = end
        self.struct.n_tokens = at
        return wanted
