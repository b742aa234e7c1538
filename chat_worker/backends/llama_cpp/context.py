"""llama.cpp's context: the KV cache and buffers of a model, which can be freed for a while."""

import ctypes
from typing import Any, NamedTuple


class Adapter(NamedTuple):
    """A LoRA adapter, freed with its model, and how much it counts."""

    handle: Any
    scale: float


class LlamaContext:
    """A context that is created again when it is needed.

    Args:
        native: the binding's module of C functions.
        model: not owned.
        params: the context's parameters.
        adapter: added to the model's weights; None: nothing is.
    Raises:
        RuntimeError: llama.cpp cannot create it.
    """

    def __init__(
        self, native: Any, model: Any, params: Any, adapter: "Adapter | None" = None
    ) -> None:
        self._native = native
        self._model = model
        self._params = params
        self._adapter = adapter
        # A slot that is copied to, where llama.cpp has put copies off.
        self._copied_to: int | None = None
        self._handle = self._made()

    @property
    def is_there(self) -> bool:
        return self._handle is not None

    @property
    def handle(self) -> Any:
        """The context, created again if it was freed.

        Raises:
            RuntimeError: there is not enough memory to create it again.
        """
        if self._handle is None:
            self._handle = self._made()
        return self._handle

    def _made(self) -> Any:
        native = self._native
        made = native.llama_init_from_model(self._model, self._params)
        if not made:
            raise RuntimeError("llama.cpp could not make its context")
        if self._adapter is not None:
            adapters = (native.llama_adapter_lora_p_ctypes * 1)(self._adapter.handle)
            scales = (ctypes.c_float * 1)(self._adapter.scale)
            if native.llama_set_adapters_lora(made, adapters, 1, scales):
                native.llama_free(made)
                raise RuntimeError("llama.cpp could not apply the adapter")
        return made

    @property
    def memory(self) -> Any:
        """The context's KV cache."""
        return self._native.llama_get_memory(self.handle)

    def length(self, slot: int) -> int:
        """The tokens that a slot holds."""
        return int(self._native.llama_memory_seq_pos_max(self.memory, slot)) + 1

    def copy(self, source: int, target: int) -> None:
        """Copy all of a slot to one that has cells of its own; seen at the next step, or once
        `settle` has returned."""
        self._native.llama_memory_seq_cp(self.memory, source, target, -1, -1)
        self._copied_to = target

    def decode(self, batch: Any) -> int:
        """llama_decode's code. It makes the copies that were put off, too."""
        self._copied_to = None
        return int(self._native.llama_decode(self.handle, batch))

    def settle(self) -> None:
        """Make the copies that llama.cpp has put off, before a slot is read or written otherwise.

        Only a step makes them (`llama_kv_cache::seq_cp`): one of a single token, which is then
        removed.
        """
        if self._copied_to is None:
            return
        slot = self._copied_to
        length = self.length(slot)
        batch = self._native.llama_batch_init(1, 0, 1)
        batch.n_tokens = batch.n_seq_id[0] = 1
        batch.token[0], batch.pos[0], batch.seq_id[0][0], batch.logits[0] = 0, length, slot, 0
        self.decode(batch)
        self._native.llama_batch_free(batch)
        self._native.llama_memory_seq_rm(self.memory, slot, length, -1)

    def compute_with(self, n_threads: int) -> None:
        """Use this many threads from now on."""
        if n_threads != self._params.n_threads:
            self._native.llama_set_n_threads(self.handle, n_threads, n_threads)
            # Also for the next time that the context is created.
            self._params.n_threads = self._params.n_threads_batch = n_threads

    def free(self) -> None:
        """Free its memory; the next use creates it again, empty."""
        if self._handle is not None:
            self._native.llama_free(self._handle)
            self._handle = self._copied_to = None
