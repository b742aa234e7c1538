"""Multiplies one small matrix of every weight type with llama.cpp's own libraries, and compares.

    python -m worker_runtime.machine.kernel_selftest plain   # weights in the file's order
    python -m worker_runtime.machine.kernel_selftest extra   # weights reordered for the processor

It runs in a process of its own, because a library that was compiled wrongly, or for another
processor, crashes. Each product is announced on stdout before it is computed, so that
`kernel_report.py`, which reads the output, knows which one crashed.
"""

import ctypes
import json
import math
import random
import sys
from collections.abc import Iterator, Sequence
from operator import mul
from typing import Any

from worker_runtime.ggml_native import CPU_DEVICE, F32, Ggml
from worker_runtime.model_files.gguf_types import BLOCKS

# Types that exist in memory only, integers and double precision: no file has such a matrix.
NO_WEIGHTS = frozenset({F32, 9, 15, 24, 25, 26, 27, 28})
# IQ types: to quantize to them takes an importance matrix, or seconds. Random codes are valid, too.
IQ1_M = 29
CODED = frozenset({16, 17, 19, 22, IQ1_M})
HALF = bytes([0x00, 0x38])  # 0.5 in 16 bits
# A multiple of the blocks of all types and of the tiles of all instruction sets.
N_IN, N_OUT = 512, 64
# One vector; and several tiles with a remainder.
COLUMNS = (1, 21)
N_THREADS = 2
NOT_FINITE = 1e9  # the error that stands for infinite or undefined results
NO_WINDOWS = 0x0001 | 0x0002  # SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX


class Products:
    """Products of all weight types, in buffers of all types."""

    def __init__(self, ggml: Ggml) -> None:
        self._ggml, self._call = ggml, ggml.functions
        self.device = ggml.functions.ggml_backend_dev_by_type(CPU_DEVICE)
        self._backend = ggml.functions.ggml_backend_dev_init(self.device, None)
        ggml.compute_with(self.device, self._backend, N_THREADS)
        chance = random.Random(0)
        n_numbers = N_IN * max(N_OUT, *COLUMNS)
        numbers = (chance.gauss(0, 1) for _ in range(n_numbers))
        self._numbers = (ctypes.c_float * n_numbers)(*numbers)
        self._signs = [chance.choice((-1.0, 1.0)) for _ in range(max(COLUMNS))]

    def types(self) -> Iterator[tuple[int, str]]:
        """Type numbers and names of the weight types."""
        for number in sorted(BLOCKS.keys() - NO_WEIGHTS):
            yield number, self._call.ggml_get_type_traits(number).contents.name.decode()

    def weights(self, number: int) -> Any:
        """A matrix of this weight type."""
        n_bytes = self._call.ggml_row_size(number, N_IN) * N_OUT
        if number in CODED:
            return ctypes.create_string_buffer(_codes(number, n_bytes), n_bytes)
        packed = ctypes.create_string_buffer(n_bytes)
        self._call.ggml_quantize_chunk(number, self._numbers, packed, 0, N_OUT, N_IN, None)
        return packed

    def error(self, number: int, packed: Any, buffer: int, n_columns: int) -> float | None:
        """The product's error relative to its size, compared with plain arithmetic; None if the
        buffer does not take such a matrix.

        All columns are compared at once: their sum with random signs equals the product with the
        same sum of their vectors. Source: Freivalds 1977, Probabilistic machines can use less time.
        """
        found = self._product(number, packed, buffer, n_columns)
        if found is None:
            return None
        signs = self._signs[:n_columns]
        vector = _signed_sums(list(self._numbers[: N_IN * n_columns]), N_IN, signs)
        summed = _signed_sums(found, N_OUT, signs)
        if not all(map(math.isfinite, summed)):
            return NOT_FINITE
        plain = self._plain(number, packed)
        expected: list[float] = [
            sum(map(mul, plain[row * N_IN : (row + 1) * N_IN], vector)) for row in range(N_OUT)
        ]
        size = math.sqrt(sum(x * x for x in expected) / N_OUT)
        return max(abs(a - b) for a, b in zip(summed, expected, strict=True)) / size

    def _plain(self, number: int, packed: Any) -> list[float]:
        to_float = self._call.ggml_get_type_traits(number).contents.to_float
        prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        plain = (ctypes.c_float * (N_IN * N_OUT))()
        prototype(to_float)(ctypes.addressof(packed), ctypes.addressof(plain), len(plain))
        return list(plain)

    def _product(self, number: int, packed: Any, buffer: int, n_columns: int) -> list[float] | None:
        call = self._call
        with self._ggml.pool() as own, self._ggml.pool() as others:
            weights = call.ggml_new_tensor_2d(own, number, N_IN, N_OUT)
            vectors = call.ggml_new_tensor_2d(others, F32, N_IN, n_columns)
            product = call.ggml_mul_mat(others, weights, vectors)
            graph = call.ggml_new_graph(others)
            call.ggml_build_forward_expand(graph, product)
            plain = call.ggml_backend_dev_buffer_type(self.device)
            with self._ggml.allocated((own, buffer), (others, plain)):
                # Checked after the weights are in the buffer, as llama.cpp does.
                if not call.ggml_backend_dev_supports_op(self.device, product):
                    return None
                call.ggml_backend_tensor_set(weights, packed, 0, len(packed))
                call.ggml_backend_tensor_set(vectors, self._numbers, 0, 4 * N_IN * n_columns)
                if call.ggml_backend_graph_compute(self._backend, graph):
                    raise RuntimeError("ggml could not compute a product")
                found = (ctypes.c_float * (N_OUT * n_columns))()
                call.ggml_backend_tensor_get(product, found, 0, ctypes.sizeof(found))
                return list(found)


def main(argv: Sequence[str]) -> None:
    _die_quietly()
    ggml = Ggml()
    _say(system=ggml.system_info)
    products = Products(ggml)
    plain = [ggml.functions.ggml_backend_dev_buffer_type(products.device)]
    buffers = ggml.extra_buffers(products.device) if argv == ["extra"] else plain
    for number, name in products.types():
        packed = products.weights(number)
        for buffer in buffers:
            where = ggml.functions.ggml_backend_buft_name(buffer).decode()
            _say(begun=[name, where])
            errors = [products.error(number, packed, buffer, n) for n in COLUMNS]
            known = [error for error in errors if error is not None]
            if known:
                _say(type=name, buffer=where, error=max(known))
    _say(done=True)


def _die_quietly() -> None:
    """Prevent error dialogs, which wait for a click, and core dumps."""
    if sys.platform == "win32":
        ctypes.windll.kernel32.SetErrorMode(NO_WINDOWS)
    else:
        # Imported here because Windows has no such module.
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _codes(number: int, n_bytes: int) -> bytes:
    """Blocks of random codes, each with a scale of moderate size."""
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


def _say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
