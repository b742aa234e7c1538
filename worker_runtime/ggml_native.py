"""Declares the ggml functions of the self-test and of the choice of buffers.

They are those of llama-cpp-python's libraries.
"""

import contextlib
import ctypes
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from worker_runtime.llama_native import ggml_function, load_native

CPU_DEVICE = 0  # GGML_BACKEND_DEVICE_TYPE_CPU
F32, I32 = 0, 26
# For the descriptions of the tensors and graphs of some products; their values are in buffers.
POOL_BYTES = 1 << 20


class PoolParams(ctypes.Structure):
    """The C struct `ggml_init_params`."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


class TypeTraits(ctypes.Structure):
    """The first fields of the C struct `ggml_type_traits`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("block", ctypes.c_int64),
        ("interleaved_block", ctypes.c_int64),
        ("block_bytes", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.c_void_p),
    )


_POINTER, _INT, _LONG, _SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_size_t
_TEXT, _BOOL = ctypes.c_char_p, ctypes.c_bool
# The result type and the argument types of each function.
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "ggml_init": (_POINTER, PoolParams),
    "ggml_free": (None, _POINTER),
    "ggml_get_type_traits": (ctypes.POINTER(TypeTraits), _INT),
    "ggml_row_size": (_SIZE, _INT, _LONG),
    "ggml_quantize_chunk": (_SIZE, _INT, _POINTER, _POINTER, _LONG, _LONG, _LONG, _POINTER),
    "ggml_new_tensor_2d": (_POINTER, _POINTER, _INT, _LONG, _LONG),
    "ggml_new_tensor_3d": (_POINTER, _POINTER, _INT, _LONG, _LONG, _LONG),
    "ggml_mul_mat": (_POINTER, _POINTER, _POINTER, _POINTER),
    "ggml_mul_mat_id": (_POINTER, _POINTER, _POINTER, _POINTER, _POINTER),
    "ggml_new_graph": (_POINTER, _POINTER),
    "ggml_build_forward_expand": (None, _POINTER, _POINTER),
    "ggml_backend_dev_by_type": (_POINTER, _INT),
    "ggml_backend_dev_init": (_POINTER, _POINTER, _POINTER),
    "ggml_backend_free": (None, _POINTER),
    "ggml_backend_dev_buffer_type": (_POINTER, _POINTER),
    "ggml_backend_dev_supports_op": (_BOOL, _POINTER, _POINTER),
    "ggml_backend_dev_backend_reg": (_POINTER, _POINTER),
    "ggml_backend_reg_get_proc_address": (_POINTER, _POINTER, _TEXT),
    "ggml_backend_buft_name": (_TEXT, _POINTER),
    "ggml_backend_alloc_ctx_tensors_from_buft": (_POINTER, _POINTER, _POINTER),
    "ggml_backend_buffer_clear": (None, _POINTER, ctypes.c_uint8),
    "ggml_backend_buffer_free": (None, _POINTER),
    "ggml_backend_tensor_set": (None, _POINTER, _POINTER, _SIZE, _SIZE),
    "ggml_backend_tensor_get": (None, _POINTER, _POINTER, _SIZE, _SIZE),
    "ggml_backend_graph_compute": (_INT, _POINTER, _POINTER),
}


class Ggml:
    """ggml's functions, and what it reports about itself.

    Raises:
        ImportError, OSError, RuntimeError: as `load_native`.
    """

    def __init__(self) -> None:
        native = load_native()
        # The instruction sets that the library was compiled for, as the library writes them.
        self.system_info = native.llama_print_system_info().decode("utf-8", "replace").strip()
        self.functions: Any = SimpleNamespace()
        for name, (result, *arguments) in _FUNCTIONS.items():
            function = ggml_function(native, name)
            function.restype, function.argtypes = result, arguments
            setattr(self.functions, name, function)

    @contextlib.contextmanager
    def pool(self) -> Iterator[int]:
        """A place for tensors and graphs without their values."""
        made = self.functions.ggml_init(PoolParams(POOL_BYTES, None, True))
        try:
            yield made
        finally:
            self.functions.ggml_free(made)

    @contextlib.contextmanager
    def allocated(self, *places: tuple[int, int]) -> Iterator[bool]:
        """Gives the tensors of pools their values, which are zeros; false if memory is short.

        Args:
            places: pools and types of buffers.
        """
        call = self.functions
        made = [call.ggml_backend_alloc_ctx_tensors_from_buft(*place) for place in places]
        buffers = [buffer for buffer in made if buffer]
        try:
            for buffer in buffers:
                call.ggml_backend_buffer_clear(buffer, 0)
            yield len(buffers) == len(places)
        finally:
            for buffer in buffers:
                call.ggml_backend_buffer_free(buffer)

    def extra_buffers(self, device: int) -> list[int]:
        """The buffer types in which the CPU backend stores weights in an order of its own."""
        ask = self._by_name(device, b"ggml_backend_dev_get_extra_bufts")
        if not ask:
            return []
        prototype = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)
        return list(_until_null(prototype(ask)(device)))

    def compute_with(self, device: int, backend: int, n_threads: int) -> None:
        """Set the number of threads of a backend."""
        if change := self._by_name(device, b"ggml_backend_set_n_threads"):
            ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)(change)(backend, n_threads)

    def _by_name(self, device: int, name: bytes) -> Any:
        registry = self.functions.ggml_backend_dev_backend_reg(device)
        return self.functions.ggml_backend_reg_get_proc_address(registry, name)


def _until_null(found: Any) -> Iterator[int]:
    at = 0
    while found[at]:
        yield found[at]
        at += 1
