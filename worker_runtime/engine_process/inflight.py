"""The calls that are open on one engine process, and the events that wait for their readers.

The pipe has one reader for all calls, so a slow reader of one call must not stop it: events pile
up per call, and a call whose reader lets too much pile up is ended.
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
    """Events of one call that its reader has not taken yet."""

    def __init__(self) -> None:
        self._events: list[msgspec.Raw] = []
        self._waiting_bytes = 0
        self._ended = False
        self._error: Callable[[], ServingError] | None = None
        self._changed = asyncio.Event()

    async def take(self) -> list[msgspec.Raw]:
        """All events that wait, as soon as there is one; empty at the end of the call.

        Raises:
            ServingError: the call ended with it (after all its events were taken).
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
        """Add an event; False if too much waits already, which ends the call."""
        if self._ended:
            return True
        # One event may be larger than the limit; it must not be followed by many others.
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
    """All open calls of one process, by id."""

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
        """Forget a call; False if it had ended already."""
        return self._calls.pop(call_id, None) is not None

    def event(self, report: protocol.Event) -> bool:
        """Hand an event to its call; False if the call must be cancelled for lagging."""
        call = self._calls.get(report.id)
        # An event may cross with a cancel: then nobody is there any more.
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
