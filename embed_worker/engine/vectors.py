"""Arithmetic on finished vectors, as they lie in memory: rows of little-endian float32."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_NORM = 1e-12


def shorten(vectors: bytes | bytearray, dimension: int, keep: int) -> bytes:
    """The first `keep` of each row's `dimension` floats, scaled to unit length again.

    Source: Kusupati et al. 2022, Matryoshka Representation Learning.
    """
    return unit(_rows(vectors, dimension)[:, :keep]).tobytes()


def cosine_to_first(vectors: bytes | bytearray, dimension: int) -> list[float]:
    """Cosine of the first row with each of the others, in their order."""
    scaled = unit(_rows(vectors, dimension))
    return [float(score) for score in scaled[1:] @ scaled[0]]


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row scaled to unit length."""
    norms: NDArray[Any] = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (rows / np.maximum(norms, SMALLEST_NORM)).astype("<f4")
    return scaled


def _rows(vectors: bytes | bytearray, dimension: int) -> NDArray[np.float32]:
    return np.frombuffer(vectors, dtype="<f4").reshape(-1, dimension)
