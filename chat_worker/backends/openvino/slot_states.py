"""Copies of slots: their blocks in all layers, after a head that says what these mean."""

import hashlib
import struct

import numpy as np

from chat_worker.backends.openvino.blocks import NoBlocks
from chat_worker.backends.openvino.runner import OpenVinoRunner
from common.pages import pages

# A digest of the cache's layout, and the count of tokens.
HEAD = struct.Struct("<16sQ")


class OpenVinoSlotStates:
    """Implements `chat_worker.engine.runner.SlotStates`."""

    def __init__(self, runner: OpenVinoRunner) -> None:
        self._runner = runner

    def size(self, slot: int, n_tokens: int) -> int:
        n_blocks = len(self._runner.tables.blocks(slot))
        return HEAD.size + n_blocks * self._runner.cache.block_bytes

    def save(self, slot: int, n_tokens: int) -> memoryview | None:
        state = memoryview(pages(self.size(slot, n_tokens)))
        HEAD.pack_into(state, 0, self._layout(), n_tokens)
        content = np.frombuffer(state, np.uint8, offset=HEAD.size)
        self._runner.cache.read(self._runner.tables.blocks(slot), content)
        return state

    def restore(self, state: memoryview, slot: int) -> bool:
        if state.nbytes < HEAD.size:
            return False
        layout, n_tokens = HEAD.unpack_from(state)
        cache, tables = self._runner.cache, self._runner.tables
        if layout != self._layout() or n_tokens > self._runner.limits.n_ctx:
            return False
        try:
            tables.reserve(slot, n_tokens)
        except NoBlocks:
            return False
        if state.nbytes != self.size(slot, n_tokens):
            return False
        cache.write(tables.blocks(slot), np.frombuffer(state, np.uint8, offset=HEAD.size))
        tables.computed(slot, n_tokens)
        return True

    def _layout(self) -> bytes:
        return hashlib.blake2b(self._runner.cache.layout.encode(), digest_size=16).digest()
