"""A request inside the engine: rows of token ids, and the places of their vectors."""

from array import array
from collections.abc import Callable, Sequence

import msgspec

from common.errors import ServingError

FLOAT_BYTES = 4
TOKEN_TYPE = "i"  # the array type of token ids: C int, 32 bits


class Row(msgspec.Struct, frozen=True):
    """One input, ready for the model."""

    # array(TOKEN_TYPE), special tokens included.
    ids: array  # type: ignore[type-arg]
    # Leading tokens of the prompt; a model may exclude them from its pooling.
    n_prompt: int = 0
    # For a pair, which has no prompt: leading tokens of the first type; 0: all.
    n_first: int = 0

    @property
    def key(self) -> tuple[int, bytes]:
        """Equal for rows that have the same vector."""
        return self.n_prompt or self.n_first, self.ids.tobytes()


class EncodeCall:
    """One request; its vectors are collected in the order of its rows, whatever order they run in.

    Args:
        on_done: called once, on the thread that computed the last row.
        on_failed: called at most once instead of `on_done`, with the error.
    """

    def __init__(
        self,
        call_id: int,
        rows: Sequence[Row],
        dimension: int,
        on_done: Callable[["EncodeCall"], None],
        on_failed: Callable[[ServingError], None],
    ) -> None:
        self.id = call_id
        self.rows = rows
        self.dimension = dimension
        self.vectors = bytearray(len(rows) * dimension * FLOAT_BYTES)
        self.on_done = on_done
        self.on_failed = on_failed
        # The tokens of rows whose vectors were cached.
        self.n_cached_tokens = 0
        self._n_missing = len(rows)

    @property
    def n_tokens(self) -> int:
        return sum(len(row.ids) for row in self.rows)

    @property
    def is_complete(self) -> bool:
        return self._n_missing == 0

    def put(self, index: int, vector: bytes | memoryview) -> None:
        """Store the vector of row `index`; called exactly once for each row."""
        width = self.dimension * FLOAT_BYTES
        self.vectors[index * width : (index + 1) * width] = vector
        self._n_missing -= 1
