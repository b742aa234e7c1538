"""Computes a step's items in one inference of a model with paged attention."""

from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from chat_worker.backends.openvino.blocks import BlockTables, NoBlocks
from chat_worker.backends.openvino.kv_cache import KvCache
from chat_worker.backends.openvino.paged_model import WANTED
from chat_worker.backends.sizes import n_blocks
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

# For each number of tokens in a step, OpenVINO prepares its operators anew and keeps what it made,
# so that there should be few such numbers: beyond this one, its multiples.
TOKEN_MULTIPLE = 8


class OpenVinoRunner:
    """One compiled model, and the blocks of all slots.

    Args:
        compiled: a model with paged attention.
        pages: the mapped file from which it reads weights; kept mapped until the end.
    """

    def __init__(self, compiled: Any, limits: Limits, pages: object = None) -> None:
        self._compiled = compiled
        self._pages = pages
        self._limits = limits
        self._inputs = {name for port in compiled.inputs for name in port.get_names()}
        self._n_blocks = n_blocks(limits.n_cells, limits.n_slots)
        # One block more than there are in the tables, for tokens that only fill a step up.
        self._spare_block = self._n_blocks
        self.tables = BlockTables(limits.n_slots, self._n_blocks)
        self._cache: KvCache | None = None
        self._request: Any = None

    @property
    def limits(self) -> Limits:
        return self._limits

    def apply(self, op: CacheOp) -> None:
        match op:
            case TruncateSlot(slot, length):
                self.tables.truncate(slot, length)
            case ForkSlot(source, target, length):
                self.tables.fork(source, target, length)

    def run(self, items: list[ScheduledTokens]) -> list[LogitsRow]:
        try:
            self._reserve(items)
            rows = self._infer(items)
        except (RuntimeError, MemoryError, NoBlocks) as error:
            raise RunFailed(f"OpenVINO could not compute the batch: {error}") from error
        for item in items:
            self.tables.computed(item.slot, item.start + item.size)
        return rows

    def length(self, slot: int) -> int:
        return self.tables.length(slot)

    def shed(self) -> None:
        self._cache = self._request = None
        self._compiled.release_memory()
        return_freed_memory()

    def close(self) -> None:
        self._cache = self._request = self._compiled = None

    @property
    def cache(self) -> KvCache:
        """The contents of the blocks; its memory is allocated if it was shed."""
        if self._cache is None:
            self._cache = KvCache(self._compiled, self._n_blocks + 1)
            self._request = self._compiled.create_infer_request()
            self._cache.give_to(self._request)
        return self._cache

    def _reserve(self, items: list[ScheduledTokens]) -> None:
        cache = self.cache
        for item in items:
            copy = self.tables.reserve(item.slot, item.start + item.size)
            if copy is not None:
                cache.copy(*copy)

    def _infer(self, items: list[ScheduledTokens]) -> list[LogitsRow]:
        wanted = _wanted(items)
        feed = self._feed(items) | {WANTED: wanted if len(wanted) else np.zeros(1, np.int64)}
        for name in feed.keys() & self._inputs:
            self._request.set_tensor(name, openvino.Tensor(feed[name]))
        self._request.infer()
        logits = self._request.get_output_tensor(0).data
        return list(logits.reshape(-1, self._limits.n_vocab)[: len(wanted)])

    def _feed(self, items: list[ScheduledTokens]) -> dict[str, NDArray[Any]]:
        """The inputs of paged attention: the tokens of all items end to end, and their blocks.

        What fills the step up is one more sequence.
        """
        starts, sizes = [item.start for item in items], [item.size for item in items]
        blocks = [self.tables.blocks(item.slot) for item in items]
        tokens = [token for item in items for token in item.tokens]
        if n_more := _n_more(len(tokens)):
            starts, sizes = [*starts, 0], [*sizes, n_more]
            blocks = [*blocks, [self._spare_block]]
            tokens += [0] * n_more
        ends = [start + size for start, size in zip(starts, sizes, strict=True)]
        positions = [np.arange(start, end) for start, end in zip(starts, ends, strict=True)]
        return {
            "input_ids": np.array(tokens, np.int64),
            "position_ids": np.concatenate(positions).astype(np.int64),
            "past_lens": np.array(starts, np.int32),
            "subsequence_begins": _begins(sizes),
            "block_indices": np.array([block for own in blocks for block in own], np.int32),
            "block_indices_begins": _begins([len(own) for own in blocks]),
            "max_context_len": np.array(max(ends), np.int32),
        }


def _n_more(n_tokens: int) -> int:
    """The tokens that fill a step up."""
    return -n_tokens % TOKEN_MULTIPLE if n_tokens > TOKEN_MULTIPLE else 0


def _wanted(items: list[ScheduledTokens]) -> NDArray[np.int64]:
    """The places of the tokens whose logits are wanted."""
    wanted: list[int] = []
    end = 0
    for item in items:
        end += item.size
        wanted += range(end - item.n_rows, end)
    return np.array(wanted, np.int64)


def _begins(sizes: list[int]) -> NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
