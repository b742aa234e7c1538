"""A runner whose vectors can be told from each other, for tests of the engine without a model."""

import struct
from array import array
from collections.abc import Sequence

from embed_worker.engine.call import TOKEN_TYPE, Row
from embed_worker.engine.runner import BatchFailed

POISON = 666


def row(*ids: int) -> Row:
    return Row(array(TOKEN_TYPE, ids))


def vector(of: Row) -> tuple[float, float]:
    return float(sum(of.ids)), float(len(of.ids))


class FakeRunner:
    """The vector of a row is the sum and the number of its ids; a batch with `POISON` fails."""

    dimension = 2

    def __init__(self) -> None:
        self.batches: list[list[Row]] = []
        self.n_sheds = 0

    def encode(self, rows: Sequence[Row]) -> memoryview:
        self.batches.append(list(rows))
        if any(POISON in row.ids for row in rows):
            raise BatchFailed
        return memoryview(b"".join(struct.pack("<2f", *vector(row)) for row in rows))

    def shed(self) -> None:
        self.n_sheds += 1
