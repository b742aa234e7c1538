"""Multiplies one small matrix of every weight type with llama.cpp's own libraries, and compares.

    python -m worker_runtime.kernel_selftest plain    # as the weights lie in a file
    python -m worker_runtime.kernel_selftest extra    # in the orders that the processor likes

A process of its own: a library that was compiled wrongly, or for another processor, ends it. Each
product is announced before it is computed, so that whoever reads along knows which one that was;
`kernel_report.py` reads along.
"""

import ctypes
import importlib
import json
import math
import random
import sys
from collections.abc import Iterator, Sequence
from operator import mul
from pathlib import Path
from typing import Any

from worker_runtime.ggml_types import BLOCKS
from worker_runtime.llama_native import load_native

F32 = 0
# Types in memory only, integers, and double precision: no file has a matrix of them.
NO_WEIGHTS = frozenset({F32, 9, 15, 24, 25, 26, 27, 28})
# IQ types that need an importance matrix, or seconds, to be made of numbers. Any codes are weights.
IQ1_M = 29
CODED = frozenset({16, 17, 19, 22, IQ1_M})
HALF = bytes([0x00, 0x38])  # 0.5 in 16 bits
# Whole blocks of every type, and whole tiles of every instruction set.
N_IN, N_OUT = 512, 64
# One vector; and some tiles with a rest.
COLUMNS = (1, 21)
N_THREADS = 2
POOL_BYTES = 1 << 20
BUFFER_OFFSET = ctypes.sizeof(ctypes.c_void_p)  # of `buffer` in ggml_tensor, after its type
NO_WINDOWS = 0x0001 | 0x0002  # SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX
CPU_DEVICE = 0  # GGML_BACKEND_DEVICE_TYPE_CPU


class _PoolParams(ctypes.Structure):
    """ggml_init_params"""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


class _TypeTraits(ctypes.Structure):
    """The beginning of ggml_type_traits"""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("block", ctypes.c_int64),
        ("interleaved_block", ctypes.c_int64),
        ("block_bytes", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.c_void_p),
    )


class Ggml:
    """The functions that the test calls, by their names without `ggml_`."""

    def __init__(self) -> None:
        native = load_native()
        package = importlib.import_module("llama_cpp._ggml")
        libraries = [package.libggml]
        if sys.platform == "win32":
            # Elsewhere a library's symbols are found with those of what it needs.
            base = Path(package.libggml_base_path)
            libraries += [ctypes.CDLL(str(path)) for path in base.glob("*ggml-base.dll")]
        self._libraries = libraries
        self.system_info = native.llama_print_system_info().decode("utf-8", "replace").strip()
        pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
        long = ctypes.c_int64
        self.init = self._function("ggml_init", pointer, _PoolParams)
        self.free = self._function("ggml_free", None, pointer)
        self.traits = self._function("ggml_get_type_traits", ctypes.POINTER(_TypeTraits), number)
        self.row_bytes = self._function("ggml_row_size", size, number, long)
        self.quantize = self._function(
            "ggml_quantize_chunk", size, number, pointer, pointer, long, long, long, pointer
        )
        self.matrix = self._function("ggml_new_tensor_2d", pointer, pointer, number, long, long)
        self.product = self._function("ggml_mul_mat", pointer, pointer, pointer, pointer)
        self.graph = self._function("ggml_new_graph", pointer, pointer)
        self.add = self._function("ggml_build_forward_expand", None, pointer, pointer)
        self.device = self._function("ggml_backend_dev_by_type", pointer, number)
        self.start = self._function("ggml_backend_dev_init", pointer, pointer, pointer)
        self.default_buffer = self._function("ggml_backend_dev_buffer_type", pointer, pointer)
        self.buffer_name = self._function("ggml_backend_buft_name", ctypes.c_char_p, pointer)
        self.supports = self._function(
            "ggml_backend_dev_supports_op", ctypes.c_bool, pointer, pointer
        )
        self.allocate = self._function(
            "ggml_backend_alloc_ctx_tensors_from_buft", pointer, pointer, pointer
        )
        self.free_buffer = self._function("ggml_backend_buffer_free", None, pointer)
        self.write = self._function("ggml_backend_tensor_set", None, pointer, pointer, size, size)
        self.read = self._function("ggml_backend_tensor_get", None, pointer, pointer, size, size)
        self.compute = self._function("ggml_backend_graph_compute", number, pointer, pointer)
        self._registry = self._function("ggml_backend_dev_backend_reg", pointer, pointer)
        self._named = self._function(
            "ggml_backend_reg_get_proc_address", pointer, pointer, ctypes.c_char_p
        )

    def extra_buffers(self, device: int) -> list[int]:
        """The types of buffers in which the CPU backend keeps weights in another order."""
        ask = self._by_name(device, b"ggml_backend_dev_get_extra_bufts")
        if not ask:
            return []
        prototype = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)
        found = prototype(ask)(device)
        return [int(buffer) for buffer in _until_null(found)]

    def compute_with(self, device: int, backend: int, n_threads: int) -> None:
        if change := self._by_name(device, b"ggml_backend_set_n_threads"):
            ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)(change)(backend, n_threads)

    def _by_name(self, device: int, name: bytes) -> Any:
        return self._named(self._registry(device), name)

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        library = next(found for found in self._libraries if hasattr(found, name))
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
        return function


class Products:
    """Products of one weight type after another, in buffers of one type after another."""

    def __init__(self, ggml: Ggml) -> None:
        self._ggml = ggml
        self.device = ggml.device(CPU_DEVICE)
        self._backend = ggml.start(self.device, None)
        ggml.compute_with(self.device, self._backend, N_THREADS)
        chance = random.Random(0)
        n_numbers = N_IN * max(N_OUT, *COLUMNS)
        numbers = (chance.gauss(0, 1) for _ in range(n_numbers))
        self._numbers = (ctypes.c_float * n_numbers)(*numbers)
        self._signs = [chance.choice((-1.0, 1.0)) for _ in range(max(COLUMNS))]

    def types(self) -> Iterator[tuple[int, str]]:
        """Numbers and names of weight types."""
        for number in sorted(BLOCKS.keys() - NO_WEIGHTS):
            yield number, self._ggml.traits(number).contents.name.decode()

    def weights(self, number: int) -> Any:
        """A matrix of this type."""
        n_bytes = self._ggml.row_bytes(number, N_IN) * N_OUT
        if number in CODED:
            return ctypes.create_string_buffer(_codes(number, n_bytes), n_bytes)
        packed = ctypes.create_string_buffer(n_bytes)
        self._ggml.quantize(number, self._numbers, packed, 0, N_OUT, N_IN, None)
        return packed

    def error(self, number: int, packed: Any, buffer: int, n_columns: int) -> float | None:
        """How far off the product is from one by plain arithmetic, as a share of its size; None:
        the buffer does not take such a matrix.

        All columns are compared at once: summed up with random signs, they are the product with the
        sum of their vectors. Source: Freivalds 1977, Probabilistic machines can use less time.
        """
        found = self._product(number, packed, buffer, n_columns)
        if found is None:
            return None
        signs = self._signs[:n_columns]
        vector = _signed_sums(list(self._numbers[: N_IN * n_columns]), N_IN, signs)
        summed = _signed_sums(found, N_OUT, signs)
        plain = self._plain(number, packed)
        expected: list[float] = [
            sum(map(mul, plain[row * N_IN : (row + 1) * N_IN], vector)) for row in range(N_OUT)
        ]
        size = math.sqrt(sum(x * x for x in expected) / N_OUT)
        return max(abs(a - b) for a, b in zip(summed, expected, strict=True)) / size

    def _plain(self, number: int, packed: Any) -> list[float]:
        to_float = self._ggml.traits(number).contents.to_float
        prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        plain = (ctypes.c_float * (N_IN * N_OUT))()
        prototype(to_float)(ctypes.addressof(packed), ctypes.addressof(plain), len(plain))
        return list(plain)

    def _product(self, number: int, packed: Any, buffer: int, n_columns: int) -> list[float] | None:
        ggml = self._ggml
        own, others = (ggml.init(_PoolParams(POOL_BYTES, None, True)) for _ in range(2))
        weights = ggml.matrix(own, number, N_IN, N_OUT)
        vectors = ggml.matrix(others, F32, N_IN, n_columns)
        product = ggml.product(others, weights, vectors)
        graph = ggml.graph(others)
        ggml.add(graph, product)
        buffers = [
            ggml.allocate(own, buffer),
            ggml.allocate(others, ggml.default_buffer(self.device)),
        ]
        result: list[float] | None = None
        # Asked once the weights are in the buffer, as llama.cpp does.
        if ggml.supports(self.device, product):
            ggml.write(weights, packed, 0, len(packed))
            ggml.write(vectors, self._numbers, 0, 4 * N_IN * n_columns)
            if ggml.compute(self._backend, graph):
                raise RuntimeError("ggml could not compute a product")
            found = (ctypes.c_float * (N_OUT * n_columns))()
            ggml.read(product, found, 0, ctypes.sizeof(found))
            result = list(found)
        for made in buffers:
            ggml.free_buffer(made)
        for pool in (own, others):
            ggml.free(pool)
        return result


def main(argv: Sequence[str]) -> None:
    _die_quietly()
    ggml = Ggml()
    _say(system=ggml.system_info)
    products = Products(ggml)
    plain = [ggml.default_buffer(products.device)]
    buffers = ggml.extra_buffers(products.device) if argv == ["extra"] else plain
    for number, name in products.types():
        packed = products.weights(number)
        for buffer in buffers:
            where = ggml.buffer_name(buffer).decode()
            _say(begun=[name, where])
            errors = [products.error(number, packed, buffer, n) for n in COLUMNS]
            known = [error for error in errors if error is not None]
            if known:
                # What is no number is not near any.
                worst = max(known, key=lambda error: (error != error, error))
                _say(type=name, buffer=where, error=worst if worst == worst else 1e9)
    _say(done=True)


def _die_quietly() -> None:
    """No window that waits for somebody to click, no image of the memory on disk."""
    if sys.platform == "win32":
        ctypes.windll.kernel32.SetErrorMode(NO_WINDOWS)
    else:
        # Not at the top: Windows has none.
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _codes(number: int, n_bytes: int) -> bytes:
    """Blocks of any codes, each with a scale that is a number of moderate size."""
    codes = bytearray(random.Random(number).randbytes(n_bytes))
    _, block = BLOCKS[number]
    for at in range(0, n_bytes, block):
        if number == IQ1_M:
            # Its scale is in the upper half-bytes of the last four numbers, the sign in the last.
            codes[at + block - 1] = 0x20 | codes[at + block - 1] & 0x0F
        else:
            codes[at : at + 2] = HALF
    return bytes(codes)


def _signed_sums(columns: list[float], length: int, signs: list[float]) -> list[float]:
    return [sum(map(mul, columns[row::length], signs)) for row in range(length)]


def _until_null(found: Any) -> Iterator[int]:
    at = 0
    while found[at]:
        yield found[at]
        at += 1


def _say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
