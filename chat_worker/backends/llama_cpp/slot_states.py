"""Copies of slots, in llama.cpp's own format: the cells of one sequence in the cache's type."""

import ctypes
from typing import Any

import numpy as np

from chat_worker.backends.llama_cpp.context import LlamaContext
from common.pages import pages

WHOLE = 0  # llama_state_seq_flags: the cells of all kinds of layers


class LlamaSlotStates:
    """Implements `chat_worker.engine.runner.SlotStates`."""

    def __init__(self, native: Any, context: LlamaContext) -> None:
        self._native = native
        self._context = context

    def size(self, slot: int, n_tokens: int) -> int:
        return int(self._native.llama_state_seq_get_size_ext(self._context.handle, slot, WHOLE))

    def save(self, slot: int, n_tokens: int) -> memoryview | None:
        self._context.settle()
        size = self.size(slot, n_tokens)
        state = memoryview(pages(size))
        n_written = self._native.llama_state_seq_get_data_ext(
            self._context.handle, _pointer(state), size, slot, WHOLE
        )
        return state if n_written == size else None

    def restore(self, state: memoryview, slot: int) -> bool:
        self._context.settle()
        n_read = self._native.llama_state_seq_set_data_ext(
            self._context.handle, _pointer(state), state.nbytes, slot, WHOLE
        )
        return bool(n_read)


def _pointer(state: memoryview) -> Any:
    """The bytes for a C function; it is valid as long as the caller holds `state`."""
    address = np.frombuffer(state, np.uint8).ctypes.data
    return (ctypes.c_uint8 * state.nbytes).from_address(address)
