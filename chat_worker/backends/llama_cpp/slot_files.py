"""Slots as files in llama.cpp's own format."""

import ctypes
import os
from pathlib import Path
from typing import Any

from chat_worker.backends.llama_cpp.context import LlamaContext


class LlamaSlotFiles:
    """Implements `engine.disk_prefix_cache.SlotFiles`."""

    def __init__(self, native: Any, context: LlamaContext) -> None:
        self._native = native
        self._context = context

    def save(self, slot: int, tokens: list[int], path: Path) -> bool:
        ids = (ctypes.c_int32 * len(tokens))(*tokens)
        name = os.fsencode(path)
        return bool(
            self._native.llama_state_seq_save_file(
                self._context.handle, name, slot, ids, len(tokens)
            )
        )

    def load(self, slot: int, path: Path, n_tokens: int) -> bool:
        ids = (ctypes.c_int32 * n_tokens)()
        n_found = ctypes.c_size_t()
        n_bytes = self._native.llama_state_seq_load_file(
            self._context.handle, os.fsencode(path), slot, ids, n_tokens, ctypes.byref(n_found)
        )
        return bool(n_bytes) and n_found.value == n_tokens
