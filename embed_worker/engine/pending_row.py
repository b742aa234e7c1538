"""One distinct text that waits for the model, or runs in it."""

import enum

from embed_worker.engine.cache import Key
from embed_worker.engine.call import EncodeCall, Row


class RowState(enum.Enum):
    WAITING = enum.auto()
    RUNNING = enum.auto()
    # Finished, failed, or no longer needed by any call.
    GONE = enum.auto()


class PendingRow:
    """A row that is computed once for all the places that need its vector."""

    __slots__ = ("is_interactive", "key", "places", "row", "state")

    def __init__(self, row: Row, key: Key, *, is_interactive: bool) -> None:
        self.row = row
        self.key = key
        self.is_interactive = is_interactive
        self.state = RowState.WAITING
        # The calls that need the vector, each with the index of its row.
        self.places: list[tuple[EncodeCall, int]] = []

    @property
    def n_tokens(self) -> int:
        return len(self.row.ids)
