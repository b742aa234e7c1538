"""Waiting rows of one kind of call, served in turns by call."""

from collections import deque
from collections.abc import Iterable, Iterator

from embed_worker.engine.pending_row import PendingRow, RowState


class PriorityQueue:
    """Calls take turns, one micro-batch each, so that a large call does not block the next."""

    def __init__(self) -> None:
        # Each call's rows, longest first: neighbours need little padding.
        self._calls: deque[deque[PendingRow]] = deque()

    def add(self, entries: Iterable[PendingRow]) -> None:
        """Add the waiting rows of one call."""
        self._calls.append(deque(sorted(entries, key=lambda e: e.n_tokens, reverse=True)))

    def has_waiting(self) -> bool:
        self._forget_gone()
        return bool(self._calls)

    def window(self, max_tokens: int) -> list[PendingRow]:
        """The rows whose turn is next, about `max_tokens` of them, at least one."""
        found: list[PendingRow] = []
        n_tokens = 0
        for entry in self._waiting():
            found.append(entry)
            n_tokens += entry.n_tokens
            if n_tokens >= max_tokens:
                break
        return found

    def end_turn(self) -> None:
        """After rows of the first call were taken, let the next call go first."""
        self._calls.rotate(-1)

    def _waiting(self) -> Iterator[PendingRow]:
        self._forget_gone()
        for entries in self._calls:
            yield from (entry for entry in entries if entry.state is RowState.WAITING)

    def _forget_gone(self) -> None:
        while self._calls:
            entries = self._calls[0]
            while entries and entries[0].state is not RowState.WAITING:
                entries.popleft()
            if entries:
                return
            self._calls.popleft()
