"""llama.cpp's context: KV cache and buffers of a model, which can be given back for a while."""

from typing import Any


class LlamaContext:
    """
    Args:
        native: the binding's module of C functions.
        model: not owned.
        params: its parameters, for each time that it is made.
        handle: made with them; owned from here on.
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
        """
        Raises:
            RuntimeError: it was given back, and there is no memory for it now.
        """
        if self._handle is None:
            made = self._native.llama_init_from_model(self._model, self._params)
            if not made:
                raise RuntimeError("llama.cpp could not make its context again")
            self._handle = made
        return self._handle

    @property
    def memory(self) -> Any:
        """Its KV cache."""
        return self._native.llama_get_memory(self.handle)

    def compute_with(self, n_threads: int) -> None:
        """Use so many threads from now on."""
        if n_threads != self._params.n_threads:
            self._native.llama_set_n_threads(self.handle, n_threads, n_threads)
            # For the next time that it is made, too.
            self._params.n_threads = self._params.n_threads_batch = n_threads

    def free(self) -> None:
        """Give its memory back; whoever needs it next makes it again, empty."""
        if self._handle is not None:
            self._native.llama_free(self._handle)
            self._handle = None
