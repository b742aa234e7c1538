"""Converts rows of token ids to the arrays that a converted model takes."""

import functools
from array import array
from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from embed_worker.encoders.conversion_files import Record
from embed_worker.engine.call import TOKEN_TYPE, Row

# Kernels are cached for each shape, so fewer shapes need less memory. Up to `FEW_TOKENS`, where
# each token has a measurable cost, lengths are multiples of the first number; longer ones are
# multiples of the second.
FEW_TOKENS = 64
LENGTH_MULTIPLES = (4, 16)

Array = NDArray[np.int32]


class BatchInputs(Protocol):
    def arrays(self, rows: Sequence[Row]) -> list[Array]:
        """Return the model's inputs, in their order."""


def batch_inputs(record: Record) -> BatchInputs:
    if record.unpadded:
        return UnpaddedInputs(record.pad_id, record.first_position, record.pools_prompt)
    return PaddedInputs(record.pad_id, record.pools_prompt)


def any_row(n_tokens: int) -> Row:
    """Return a row for tracing and testing, whose content does not matter."""
    return Row(array(TOKEN_TYPE, [1]) * n_tokens)


class PaddedInputs(msgspec.Struct, frozen=True):
    """Rectangles as wide as the longest row, with padding after each row.

    Padding comes last even if the model's tokenizer puts it first: a row of attention that sees
    only padding would have no result, and pooling finds the last token wherever it is.
    """

    pad_id: int
    pools_prompt: bool

    def arrays(self, rows: Sequence[Row]) -> list[Array]:
        """Return the ids, the mask of real tokens, and the mask of pooled tokens."""
        width = _rounded(max(len(row.ids) for row in rows))
        ids = np.full((len(rows), width), self.pad_id, dtype=np.int32)
        mask = np.zeros_like(ids)
        for position, row in enumerate(rows):
            ids[position, : len(row.ids)] = np.frombuffer(row.ids, np.int32)
            mask[position, : len(row.ids)] = 1
        if self.pools_prompt or not any(row.n_prompt for row in rows):
            return [ids, mask, mask]
        pooled = mask.copy()
        for position, row in enumerate(rows):
            pooled[position, : row.n_prompt] = 0
        return [ids, mask, pooled]


class UnpaddedInputs(msgspec.Struct, frozen=True):
    """Rows one after the other, with what is needed to separate them for attention."""

    pad_id: int
    first_position: int
    pools_prompt: bool

    def arrays(self, rows: Sequence[Row]) -> list[Array]:
        """Return the model's inputs, in their order.

        Returns:
            The ids of all tokens, with a few padding tokens at the end, and the arrays of `_apart`.
        """
        ids = array(TOKEN_TYPE)
        for row in rows:
            ids += row.ids
        ids.extend([self.pad_id] * (_rounded(len(ids)) - len(ids)))
        lengths = tuple(len(row.ids) for row in rows)
        left_out = None if self.pools_prompt else tuple(row.n_prompt for row in rows)
        return [np.frombuffer(ids, np.int32), *_apart(lengths, left_out, self.first_position)]


# Short texts that come alone have few different lengths.
@functools.lru_cache(maxsize=64)
def _apart(
    lengths: tuple[int, ...], left_out: tuple[int, ...] | None, first_position: int
) -> list[Array]:
    """Return the arrays that separate the rows for attention.

    Args:
        left_out: how many leading tokens of each row are not pooled; None if all are pooled.
    Returns:
        positions: the positions of all tokens in their rows, starting at `first_position`.
        tokens: for each place in a rectangle of (rows, longest row), the index of its token; an
            arbitrary index where the row has ended.
        places: for each token, its place in that rectangle, read row by row.
        mask, pooled: which places of that rectangle hold real tokens, and pooled tokens.
    """
    n_tokens, width = sum(lengths), _rounded(max(lengths))
    columns = np.arange(width, dtype=np.int32)
    ends = np.cumsum(lengths, dtype=np.int32)[:, None]
    starts = ends - np.array(lengths, dtype=np.int32)[:, None]
    tokens = starts + columns
    mask = tokens < ends
    tokens[~mask] = 0
    places = np.zeros(_rounded(n_tokens), dtype=np.int32)
    places[:n_tokens] = np.flatnonzero(mask)
    positions = places % width + first_position
    pooled = mask if left_out is None else mask & (columns >= np.array(left_out)[:, None])
    return [positions, tokens, places, mask.astype(np.int32), pooled.astype(np.int32)]


def _rounded(length: int) -> int:
    multiple = LENGTH_MULTIPLES[length > FEW_TOKENS]
    return -(-length // multiple) * multiple
