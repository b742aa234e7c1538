"""The interface between the engine and the library that computes vectors."""

from collections.abc import Sequence
from typing import Protocol

from embed_worker.engine.call import Row


class BatchFailed(Exception):
    """The library could not compute a batch; the cause is chained, for the log only."""


class EncoderRunner(Protocol):
    """Computes vectors. Used by one thread only after it is loaded."""

    # Floats of one vector.
    dimension: int

    def encode(self, rows: Sequence[Row]) -> memoryview:
        """Vectors of `rows`: (len(rows) × dimension) little-endian float32, row after row,
        as a view of bytes (format "B").

        Raises:
            BatchFailed: the library failed, or a vector is not finite.
        """

    def shed(self) -> None:
        """Free buffers that the next batch can allocate again."""
