"""Fills llama.cpp's batches from a plan, decodes them, and returns the rows of logits."""

import ctypes
import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chat_worker.backends.llama_cpp.context import LlamaContext
from chat_worker.engine.runner import (
    CacheOp,
    ForkSlot,
    Limits,
    RunFailed,
    ScheduledTokens,
    TruncateSlot,
    alike,
)
from chat_worker.engine.sampling import LogitsRow
from common.freed_memory import return_freed_memory

# llama.cpp multiplies quantized weights by this many tokens at once. The tokens that remain are
# computed one by one, which takes longer than filling up the last group.
KERNEL_ROWS = 4


class LlamaRunner:
    """One model and one context with the KV cache of all slots.

    Args:
        native: the binding's module of C functions.
        model, context: owned by this object; freed by `close`.
        n_threads: evaluated before each step.
        n_tile: the length in tokens from which on a prompt is computed `apart` from shorter ones;
            0: never.
    """

    def __init__(
        self,
        native: Any,
        model: Any,
        context: LlamaContext,
        limits: Limits,
        n_threads: Callable[[], int],
        n_tile: int = 0,
    ) -> None:
        self._native = native
        self._model = model
        self._context = context
        self._batch = _NativeBatch(native, limits.n_batch)
        self._limits = limits
        self._n_threads = n_threads
        self._n_tile = n_tile

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def n_last_computed(self) -> int:
        """The tokens of the last batch, with those that only fill it up for the faster kernel."""
        return int(self._batch.struct.n_tokens)

    def apply(self, op: CacheOp) -> None:
        match op:
            case TruncateSlot(slot, length):
                if not self._context.is_there:
                    return
                start = length if length else -1
                if not self._native.llama_memory_seq_rm(self._context.memory, slot, start, -1):
                    raise RuntimeError(f"llama.cpp did not cut slot {slot} to {length} tokens")
            case ForkSlot(source, target, length):
                self._fork(source, target, length)

    def run(self, items: list[ScheduledTokens]) -> list[LogitsRow]:
        self._context.compute_with(self._n_threads())
        rows: dict[ScheduledTokens, list[LogitsRow]] = {}
        *first, last = self._batches(items)
        for batch in first:
            # The next batch overwrites these rows.
            rows |= {item: [row.copy() for row in own] for item, own in self._decode(batch)}
        rows |= dict(self._decode(last))
        return [row for item in items for row in rows[item]]

    def length(self, slot: int) -> int:
        if not self._context.is_there:
            return 0
        return self._context.length(slot)

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
        # Slots with cells of their own can only be copied completely.
        self._context.copy(source, target)
        self.apply(TruncateSlot(target, length))

    def _batches(self, items: list[ScheduledTokens]) -> list[list[ScheduledTokens]]:
        limits = self._limits
        if not self._n_tile:
            batches = [items]
        else:
            n_short = self._n_tile - 1 if limits.shares_cells else limits.n_batch
            batches = apart(items, self._n_tile, n_short, limits)
        if limits.shares_cells:
            return batches
        # llama.cpp also computes slots together that are consecutive in the batch.
        return [sorted(batch, key=lambda item: item.slot) for batch in batches]

    def _decode(
        self, items: list[ScheduledTokens]
    ) -> Iterator[tuple[ScheduledTokens, list[LogitsRow]]]:
        n_each = self._padded(items)
        wanted = iter(self._batch.fill(items, n_each))
        code = self._context.decode(self._batch.struct)
        if code:
            raise RunFailed(f"llama_decode returned {code}")
        for item in items:
            if item.size < n_each:
                self.apply(TruncateSlot(item.slot, item.start + item.size))
            yield item, [self._row(index) for index in islice(wanted, item.n_rows)]

    def _padded(self, items: list[ScheduledTokens]) -> int:
        """The length to which these items are padded; 0: no padding."""
        longest = max(item.size for item in items)
        if len(items) == 1 or not self._n_tile or longest < self._n_tile:
            return 0
        multiple = KERNEL_ROWS // math.gcd(KERNEL_ROWS, len(items))
        whole = -(-longest // multiple) * multiple
        fits = (_fits(item, whole, len(items), self._limits) for item in items)
        return whole if all(fits) else longest

    def _row(self, index: int) -> LogitsRow:
        pointer = self._native.llama_get_logits_ith(self._context.handle, index)
        if not pointer:
            raise RunFailed(f"llama.cpp has no logits for token {index} of the batch")
        address = ctypes.addressof(pointer.contents)
        block = (ctypes.c_float * self._limits.n_vocab).from_address(address)
        row: LogitsRow = np.ctypeslib.as_array(block)
        return row


def apart(
    items: list[ScheduledTokens], n_tile: int, n_short: int, limits: Limits
) -> list[list[ScheduledTokens]]:
    """The batches in which to compute the items; items of `n_tile` tokens or more are separate.

    From that length on, llama.cpp's attention computes the tokens of a batch in tiles, which rounds
    differently, and in one pool of cells all tokens of a tile attend to the cells of each sequence
    in it. The result of a prompt does not depend on other prompts if it has tiles of its own from
    its first token on: either alone in a batch, or together with prompts that are padded to its
    length, which costs less.

    Args:
        n_short: the most tokens of a batch of shorter items.
    """
    long: list[list[ScheduledTokens]] = []
    for item in sorted((i for i in items if i.size >= n_tile), key=lambda i: i.size, reverse=True):
        if long and _fits(item, long[-1][0].size, len(long[-1]) + 1, limits):
            long[-1].append(item)
        else:
            long.append([item])
    short: list[list[ScheduledTokens]] = []
    room = 0
    for item in items:
        if item.size >= n_tile:
            continue
        if item.size > room:
            short.append([])
            room = n_short
        short[-1].append(item)
        room -= item.size
    return long + short


def _fits(item: ScheduledTokens, n_each: int, n_items: int, limits: Limits) -> bool:
    """True if the item can be padded to `n_each` tokens as one of `n_items`."""
    is_near = alike(item.size, n_each)
    return is_near and n_items * n_each <= limits.n_together and item.start + n_each <= limits.n_ctx


class _NativeBatch:
    """A `llama_batch` over our own numpy arrays, so that it is filled by slices."""

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

    def fill(self, items: list[ScheduledTokens], n_each: int) -> list[int]:
        """Write the items, padded to `n_each` tokens with tokens that may follow; returns the
        indices in the batch whose logits are wanted, in order."""
        wanted: list[int] = []
        at = 0
        for item in items:
            tokens = item.tokens
            end = at + len(tokens)
            padded = max(end, at + n_each)
            self._tokens[at:end] = tokens
            self._tokens[end:padded] = tokens[-1]
            self._positions[at:padded] = np.arange(item.start, item.start + padded - at)
            self._slots[at:padded] = item.slot
            self._wanted[at:padded] = 0
            self._wanted[end - item.n_rows : end] = 1
            wanted.extend(range(end - item.n_rows, end))
            at = padded
        self.struct.n_tokens = at
        return wanted
