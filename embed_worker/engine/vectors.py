"""Arithmetic on finished vectors in memory: rows of little-endian float32."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_NORM = 1e-12


def shorten(vectors: bytes | bytearray, dimension: int, keep: int) -> bytes:
    """The first `keep` of each row's `dimension` floats, scaled to unit length again.

    Source: Kusupati et al. 2022, Matryoshka Representation Learning.
    """
    return unit(_rows(vectors, dimension)[:, :keep]).tobytes()


def cosines(vectors: bytes | bytearray, dimension: int, n_first: int) -> list[float]:
    """The cosine of each row after the first `n_first` with its counterpart among those, or with
    the only one."""
    scaled = unit(_rows(vectors, dimension))
    scores: list[float] = (scaled[:n_first] * scaled[n_first:]).sum(axis=1).tolist()
    return scores


def numbers(vectors: bytes | bytearray) -> list[float]:
    """The floats, unchanged."""
    found: list[float] = np.frombuffer(vectors, dtype="<f4").tolist()
    return found


def sigmoids(vectors: bytes | bytearray) -> list[float]:
    """The logistic function of each float."""
    # 1 / (1 + exp(-x)) would overflow.
    found: list[float] = np.exp(-np.logaddexp(0, -np.frombuffer(vectors, dtype="<f4"))).tolist()
    return found


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row scaled to unit length."""
    norms: NDArray[Any] = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (rows / np.maximum(norms, SMALLEST_NORM)).astype("<f4")
    return scaled


def _rows(vectors: bytes | bytearray, dimension: int) -> NDArray[np.float32]:
    return np.frombuffer(vectors, dtype="<f4").reshape(-1, dimension)
