"""The open calls of one engine process, and the events that their readers have not taken yet.

One task reads the pipe for all calls, so the slow reader of one call must not stop it. Events are
queued per call, and a call whose queue grows too long is ended.
"""

import asyncio
from collections.abc import Callable

import msgspec

from common.error_texts import ErrorText
from common.errors import Overloaded, ServingError
from worker_runtime.engine_process import protocol

MAX_WAITING_EVENTS = 8192
MAX_WAITING_BYTES = 64 * 1024 * 1024


class InflightCall:
    """The queue of events of one call that its reader has not taken yet."""

    def __init__(self) -> None:
        self._events: list[msgspec.Raw] = []
        self._waiting_bytes = 0
        self._ended = False
        self._error: Callable[[], ServingError] | None = None
        self._changed = asyncio.Event()

    async def take(self) -> list[msgspec.Raw]:
        """Wait for an event; return all that are queued, or an empty list at the end of the call.

        Raises:
            ServingError: the error that ended the call, after all its events were taken.
        """
        while not self._events and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        if self._events:
            taken, self._events, self._waiting_bytes = self._events, [], 0
            return taken
        if self._error is not None:
            raise self._error()
        return []

    def put(self, body: msgspec.Raw) -> bool:
        """Queue an event. Returns False if the queue is full, which ends the call."""
        if self._ended:
            return True
        # One event may exceed the limit, but then no other event may be queued.
        full = self._waiting_bytes > MAX_WAITING_BYTES or len(self._events) >= MAX_WAITING_EVENTS
        if full:
            self.end(lambda: Overloaded(ErrorText("reader_too_slow"), retry_after_s=1))
            return False
        self._events.append(body)
        self._waiting_bytes += memoryview(body).nbytes
        self._changed.set()
        return True

    def end(self, error: Callable[[], ServingError] | None) -> None:
        if not self._ended:
            self._ended, self._error = True, error
            self._changed.set()


class InflightCalls:
    """All open calls of one process, by their ids."""

    def __init__(self) -> None:
        self._calls: dict[int, InflightCall] = {}
        self._next_id = 1

    def __len__(self) -> int:
        return len(self._calls)

    def open(self) -> tuple[int, InflightCall]:
        call_id, self._next_id = self._next_id, self._next_id + 1
        self._calls[call_id] = InflightCall()
        return call_id, self._calls[call_id]

    def close(self, call_id: int) -> bool:
        """Remove a call. Returns False if it had already ended."""
        return self._calls.pop(call_id, None) is not None

    def event(self, report: protocol.Event) -> bool:
        """Queue an event for its call. Returns False if the call must be cancelled for lagging."""
        call = self._calls.get(report.id)
        # An event may cross a cancel on the pipe; then the call is no longer known.
        if call is None or call.put(report.body):
            return True
        self._calls.pop(report.id)
        return False

    def ended(self, report: protocol.Ended) -> None:
        call = self._calls.pop(report.id, None)
        if call is not None:
            call.end(report.error.error if report.error is not None else None)

    def all_ended(self, error: Callable[[], ServingError]) -> None:
        for call in self._calls.values():
            call.end(error)
        self._calls.clear()
