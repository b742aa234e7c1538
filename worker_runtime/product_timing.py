"""Times products of matrices with vectors, in each order in which llama.cpp can store a matrix."""

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from worker_runtime.ggml_native import F32, I32, Ggml
from worker_runtime.machine import cores

# Sizes, in tokens, of the products that tell kernels apart: a piece of a prompt, and answers that
# are computed together, beside a single one.
PIECE, GROUP = 64, 4
# As much of a matrix as it takes to tell the kernels apart. Of models that no cache holds, the
# product of one token is limited by how fast memory is read.
MAX_IN, MAX_ROWS, FAR_BYTES, N_RUNS = 4096, 512, 64 << 20, 5
# Whether a buffer can hold a matrix depends on what is left beyond whole blocks and tiles.
TILE_IN, TILE_ROWS = 256, 64


class Kind(NamedTuple):
    """Matrices that are multiplied alike; of experts there are several in one tensor."""

    type: int  # the number of a ggml type
    n_in: int
    n_rows: int
    of_experts: bool = False


class Seconds(NamedTuple):
    """What the expected products with one matrix take.

    Args:
        in_file: in the file's order; not measured where there is no other.
        reordered: by the types of buffers that can hold the matrix; llama.cpp takes the first.
    """

    in_file: float
    reordered: Mapping[int, float]


Times = Mapping[Kind, Seconds]


class Timing:
    """Times products.

    This is done on one core, since other programs on the others would decide the result; only what
    is read from memory is timed on all cores, which share the way there.

    Args:
        products: the expected ones.
    """

    def __init__(self, ggml: Ggml, device: int, products: Mapping[int, float]) -> None:
        self._ggml = ggml
        self._expected = products
        self._call = ggml.functions
        self._device = device
        self._plain: int = self._call.ggml_backend_dev_buffer_type(device)
        self._n_threads = cores.for_models()
        self._measured: dict[tuple[Kind, int, int], float | None] = {}

    def of(self, counts: Mapping[Kind, int], buffers: Sequence[int]) -> Times:
        """
        Args:
            counts: how many matrices of each kind there are.
            buffers: the types of those that may reorder a matrix.
        """
        backend = self._call.ggml_backend_dev_init(self._device, None)
        n_rows: Counter[Kind] = Counter()
        for kind, count in counts.items():
            n_rows[kind._replace(n_rows=0)] += count * kind.n_rows
        found = {}
        for kind in counts:
            most = n_rows[kind._replace(n_rows=0)]
            seconds = {each: self._in_buffer(backend, kind, each, most) for each in buffers}
            reordered = {each: s for each, s in seconds.items() if s is not None}
            in_file = self._in_buffer(backend, kind, self._plain, most) if reordered else None
            found[kind] = Seconds(in_file or 0.0, reordered)
        self._call.ggml_backend_free(backend)
        return found

    def _in_buffer(self, backend: int, kind: Kind, buffer: int, n_rows: int) -> float | None:
        """Seconds of the expected products with one matrix; None if the buffer cannot hold it.

        Args:
            n_rows: of all the model's matrices with rows of this kind.
        """
        total_s = 0.0
        n_far = FAR_BYTES // self._call.ggml_row_size(kind.type, min(kind.n_in, MAX_IN))
        for n_tokens, n_products in self._expected.items():
            is_far = n_tokens == 1 and n_rows > n_far
            part = _part(kind, n_far if is_far else MAX_ROWS)
            key = (part, n_tokens, buffer)
            if key not in self._measured:
                n_threads = self._n_threads if is_far else 1
                self._measured[key] = self._of_part(backend, part, n_tokens, buffer, n_threads)
            if (part_s := self._measured[key]) is None:
                return None
            share = part.n_in * part.n_rows / (kind.n_in * kind.n_rows)
            total_s += n_products * part_s / share
        return total_s

    def _of_part(
        self, backend: int, part: Kind, n_tokens: int, buffer: int, n_threads: int
    ) -> float | None:
        """Seconds of one product, on all threads together."""
        self._ggml.compute_with(self._device, backend, n_threads)
        with self._ggml.pool() as own, self._ggml.pool() as others:
            product = self._product(own, others, part, n_tokens)
            places = ((own, buffer), (others, self._plain))
            with self._ggml.allocated(*places) as is_whole:
                supports = self._call.ggml_backend_dev_supports_op
                if not is_whole or not supports(self._device, product):
                    return None
                seconds = self._seconds(backend, others, product, alone=n_threads == 1)
                return seconds * n_threads

    def _product(self, own: int, others: int, part: Kind, n_tokens: int) -> int:
        """The product of a matrix in the pool `own` with vectors."""
        call, (number, n_in, n_rows, of_experts) = self._call, part
        product: int
        if of_experts:
            weights = call.ggml_new_tensor_3d(own, number, n_in, n_rows, 2)
            vectors = call.ggml_new_tensor_3d(others, F32, n_in, 1, n_tokens)
            chosen = call.ggml_new_tensor_2d(others, I32, 1, n_tokens)
            product = call.ggml_mul_mat_id(others, weights, vectors, chosen)
        else:
            weights = call.ggml_new_tensor_2d(own, number, n_in, n_rows)
            vectors = call.ggml_new_tensor_2d(others, F32, n_in, n_tokens)
            product = call.ggml_mul_mat(others, weights, vectors)
        return product

    def _seconds(self, backend: int, pool: int, product: int, *, alone: bool) -> float:
        # Windows counts a thread's own time in steps of 16 ms.
        own_time = alone and sys.platform != "win32"
        clock = time.thread_time if own_time else time.perf_counter
        graph = self._call.ggml_new_graph(pool)
        self._call.ggml_build_forward_expand(graph, product)
        times = []
        for _ in range(N_RUNS):
            began_s = clock()
            if self._call.ggml_backend_graph_compute(backend, graph):
                raise RuntimeError("ggml could not compute a product")
            times.append(clock() - began_s)
        return min(times)


def _part(kind: Kind, max_rows: int) -> Kind:
    """A matrix of about this size that the same buffers can hold."""
    n_in, n_rows = _shorter(kind.n_in, MAX_IN, TILE_IN), _shorter(kind.n_rows, MAX_ROWS, TILE_ROWS)
    if max_rows > MAX_ROWS:
        n_rows = max_rows // TILE_ROWS * TILE_ROWS + kind.n_rows % TILE_ROWS
    return kind._replace(n_in=n_in, n_rows=n_rows)


def _shorter(n: int, most: int, tile: int) -> int:
    return n if n <= most else most - tile + n % tile
