"""The rows that wait for the model, and their order.

A call that fits into one micro-batch is interactive, and overtakes bulk calls between their
micro-batches. After `MAX_OVERTAKES` such batches in a row, a waiting bulk call gets one, so that
neither starves. A text that several calls need is computed once, or not at all if its vector is
cached. Calls are added and cancelled on the front thread while the model thread takes and finishes
batches.
"""

import threading

from common.error_texts import ErrorText
from common.errors import BackendFailure, Overloaded, ServingError
from embed_worker.engine.batcher import pack
from embed_worker.engine.cache import Cache, Key
from embed_worker.engine.call import EncodeCall
from embed_worker.engine.pending_row import PendingRow, RowState
from embed_worker.engine.priority_queue import PriorityQueue

MAX_OVERTAKES = 4
# Texts of similar length are searched among this many micro-batches of waiting tokens.
WINDOW_BATCHES = 4
FIRST_GUESS_TOKENS_PER_S = 5_000.0
SPEED_MEMORY = 0.9
RETRY_AFTER_RANGE_S = (1.0, 60.0)


class Queue:
    """The queue of one model.

    Args:
        batch_tokens: padded tokens of one micro-batch.
        batch_rows: texts of one micro-batch.
        max_tokens, max_inputs: limits of what may wait; a single larger call is accepted if
            nothing else waits.
        cache: vectors that need not be computed again.
    """

    def __init__(
        self,
        *,
        batch_tokens: int,
        batch_rows: int,
        max_tokens: int,
        max_inputs: int,
        cache: Cache,
    ) -> None:
        self._cache = cache
        self._batch_tokens = batch_tokens
        self._batch_rows = batch_rows
        self._max_tokens = max_tokens
        self._max_inputs = max_inputs
        self._changed = threading.Condition()
        self._interactive = PriorityQueue()
        self._bulk = PriorityQueue()
        self._entries: dict[Key, PendingRow] = {}
        self._calls: dict[int, list[PendingRow]] = {}
        self._n_overtakes = 0
        self._tokens_per_s = FIRST_GUESS_TOKENS_PER_S
        self._closed = False
        self._is_to_shed = False
        self.n_tokens = 0
        self.n_entries = 0

    def check_room(self, n_inputs: int, n_tokens: int = 0) -> None:
        """Check the limits, before (with no tokens) or after the texts are tokenized.

        Raises:
            Overloaded: a limit is exceeded; the error states how long the waiting work takes.
        """
        with self._changed:
            too_many = self.n_entries + n_inputs > self._max_inputs
            too_long = self.n_tokens + n_tokens > self._max_tokens
            if self.n_entries and (too_many or too_long):
                raise Overloaded(
                    ErrorText("embed_queue_full", n_inputs=self.n_entries, n_tokens=self.n_tokens),
                    retry_after_s=self._wait_s(),
                )

    def add(self, call: EncodeCall) -> None:
        """Queue the rows of `call` that are neither cached nor already waiting or running.

        A call whose rows are all cached is completed at once.
        """
        missing = self._put_cached(call)
        if not missing:
            call.on_done(call)
            return
        with self._changed:
            self._add(call, missing)
            self._changed.notify()

    def cancel(self, call_id: int) -> None:
        """Remove a call; rows that only it needs are not computed. Unknown ids are ignored."""
        with self._changed:
            for entry in self._calls.pop(call_id, ()):
                entry.places = [place for place in entry.places if place[0].id != call_id]
                if not entry.places and entry.state is RowState.WAITING:
                    self._leave(entry)

    def take(self) -> list[PendingRow] | None:
        """The next micro-batch as soon as rows wait; None after the queue is closed, and an empty
        batch if the model is to free its buffers."""
        with self._changed:
            while (queue_of_kind := self._next_queue()) is None:
                if self._is_to_shed:
                    self._is_to_shed = False
                    return []
                if self._closed:
                    return None
                self._changed.wait()
            window = queue_of_kind.window(WINDOW_BATCHES * self._batch_tokens)
            chosen = pack(
                [entry.n_tokens for entry in window],
                max_tokens=self._batch_tokens,
                max_rows=self._batch_rows,
            )
            queue_of_kind.end_turn()
            batch = [window[index] for index in chosen]
            for entry in batch:
                entry.state = RowState.RUNNING
            return batch

    def abandon(self, entry: PendingRow) -> bool:
        """Drop a running row if every call that needed it was cancelled; returns True if so."""
        with self._changed:
            if entry.places:
                return False
            self._leave(entry)
            return True

    def finish(self, entry: PendingRow, vector: memoryview) -> None:
        """Pass a computed vector to all calls that need it, and end those that it completes."""
        self._cache.put(entry.key, bytes(vector))
        for call, index in self._close(entry):
            call.put(index, vector)
            if call.is_complete and self._end(call):
                call.on_done(call)

    def fail(self, entry: PendingRow) -> None:
        """The model cannot compute `entry`: end every call that needs it."""
        for call, index in self._close(entry):
            if self._end(call):
                call.on_failed(_cannot_encode(index))

    def ran(self, n_tokens: int, duration_s: float) -> None:
        """Record the model's speed, for the Retry-After of refused requests."""
        now = n_tokens / max(duration_s, 1e-6)
        with self._changed:
            self._tokens_per_s += (now - self._tokens_per_s) * (1 - SPEED_MEMORY)

    def shed(self) -> None:
        """Drop the cached vectors in memory, and let the model thread free memory as soon as
        nothing waits."""
        self._cache.clear()
        with self._changed:
            self._is_to_shed = True
            self._changed.notify()

    def close(self) -> None:
        """Let the model thread end as soon as nothing waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def check_idle(self) -> None:
        """Raise AssertionError if any state remains although nothing waits or runs."""
        with self._changed:
            assert not self._calls, self._calls.keys()
            assert not self._entries, len(self._entries)
            assert (self.n_entries, self.n_tokens) == (0, 0), (self.n_entries, self.n_tokens)

    def _put_cached(self, call: EncodeCall) -> dict[Key, list[int]]:
        """Give `call` the vectors that are cached; returns the other rows by their keys."""
        places: dict[Key, list[int]] = {}
        for index, row in enumerate(call.rows):
            places.setdefault(row.key, []).append(index)
        cached = self._cache.find(places)
        for key, vector in cached.items():
            for index in places.pop(key):
                call.put(index, vector)
                call.n_cached_tokens += len(call.rows[index].ids)
        return places

    def _add(self, call: EncodeCall, missing: dict[Key, list[int]]) -> None:
        is_interactive = call.n_tokens <= self._batch_tokens
        fresh: list[PendingRow] = []
        mine: list[PendingRow] = []
        for key, indices in missing.items():
            entry = self._shared(key, is_interactive)
            if entry is None:
                entry = PendingRow(call.rows[indices[0]], key, is_interactive=is_interactive)
                self._entries[key] = entry
                fresh.append(entry)
            mine.append(entry)
            entry.places.extend((call, index) for index in indices)
        self._calls[call.id] = mine
        (self._interactive if is_interactive else self._bulk).add(fresh)
        self.n_entries += len(fresh)
        self.n_tokens += sum(entry.n_tokens for entry in fresh)

    def _shared(self, key: Key, is_interactive: bool) -> PendingRow | None:
        """A pending row to join, unless it waits in the slower queue."""
        entry = self._entries.get(key)
        if entry is None or entry.state is RowState.GONE:
            return None
        if entry.state is RowState.WAITING and is_interactive and not entry.is_interactive:
            return None
        return entry

    def _next_queue(self) -> PriorityQueue | None:
        bulk_waits = self._bulk.has_waiting()
        if self._interactive.has_waiting() and not (
            bulk_waits and self._n_overtakes >= MAX_OVERTAKES
        ):
            self._n_overtakes = self._n_overtakes + 1 if bulk_waits else 0
            return self._interactive
        self._n_overtakes = 0
        return self._bulk if bulk_waits else None

    def _close(self, entry: PendingRow) -> list[tuple[EncodeCall, int]]:
        with self._changed:
            self._leave(entry)
            places, entry.places = entry.places, []
            return places

    def _leave(self, entry: PendingRow) -> None:
        entry.state = RowState.GONE
        self.n_entries -= 1
        self.n_tokens -= entry.n_tokens
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]

    def _end(self, call: EncodeCall) -> bool:
        """Remove `call` and the rows that only it needs; returns False if it has ended before."""
        with self._changed:
            is_open = call.id in self._calls
        self.cancel(call.id)
        return is_open

    def _wait_s(self) -> float:
        shortest, longest = RETRY_AFTER_RANGE_S
        return min(longest, max(shortest, self.n_tokens / self._tokens_per_s))


def _cannot_encode(index: int) -> ServingError:
    return BackendFailure(ErrorText("input_not_computed"), param=f"input[{index}]")
