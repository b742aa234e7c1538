"""Waiting entries of one kind of call, in the order of their calls' turns."""

from collections import deque
from collections.abc import Iterable, Iterator

from embed_worker.engine.pending_row import PendingRow, RowState


class PriorityQueue:
    """Calls take turns, a micro-batch each, so that one big call does not hold up the next."""

    def __init__(self) -> None:
        # Each call's entries, longest first: neighbours pad each other little.
        self._calls: deque[deque[PendingRow]] = deque()

    def add(self, entries: Iterable[PendingRow]) -> None:
        """Add what one call waits for."""
        self._calls.append(deque(sorted(entries, key=lambda e: e.n_tokens, reverse=True)))

    def has_waiting(self) -> bool:
        self._forget_gone()
        return bool(self._calls)

    def window(self, max_tokens: int) -> list[PendingRow]:
        """The entries whose turn comes first, about `max_tokens` of them, at least one."""
        found: list[PendingRow] = []
        n_tokens = 0
        for entry in self._waiting():
            found.append(entry)
            n_tokens += entry.n_tokens
            if n_tokens >= max_tokens:
                break
        return found

    def end_turn(self) -> None:
        """Let the next call go first, after entries of the first one were taken."""
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
