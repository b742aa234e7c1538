"""Rows of different lengths as rectangular arrays, which models take."""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from embed_worker.engine.call import Row


class PaddedRows(msgspec.Struct, frozen=True):
    """Arrays of shape (rows, longest row)."""

    ids: NDArray[np.int64]
    # 1 for a token, 0 for padding.
    mask: NDArray[np.int64]
    # 1 for the second text of a pair.
    types: NDArray[np.int64]


def padded(rows: Sequence[Row], *, pad_id: int, on_left: bool) -> PaddedRows:
    longest = max(len(row.ids) for row in rows)
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    mask, types = np.zeros_like(ids), np.zeros_like(ids)
    for position, row in enumerate(rows):
        start = longest - len(row.ids) if on_left else 0
        end = start + len(row.ids)
        ids[position, start:end] = np.frombuffer(row.ids, dtype=np.int32)
        mask[position, start:end] = 1
        if row.n_first:
            types[position, start + row.n_first : end] = 1
    return PaddedRows(ids, mask, types)
