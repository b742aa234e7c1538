"""llama.cpp's context: the KV cache and buffers of a model, which can be freed for a while."""

from typing import Any


class LlamaContext:
    """A context that is created again when it is needed.

    Args:
        native: the binding's module of C functions.
        model: not owned.
        params: the context's parameters.
        handle: the context created with them; owned by this object.
    """

    def __init__(self, native: Any, model: Any, params: Any, handle: Any) -> None:
        self._native = native
        self._model = model
        self._params = params
        self._handle = handle

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
            made = self._native.llama_init_from_model(self._model, self._params)
            if not made:
                raise RuntimeError("llama.cpp could not make its context again")
            self._handle = made
        return self._handle

    @property
    def memory(self) -> Any:
        """The context's KV cache."""
        return self._native.llama_get_memory(self.handle)

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
            self._handle = None
