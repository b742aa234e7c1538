"""The callers that wait for one model: they receive its status, then a lease or an error."""

import asyncio
from collections.abc import Callable
from typing import Literal

import msgspec

from common.error_texts import ErrorText
from common.errors import Overloaded, ServingError
from worker_runtime.lifecycle.leases import LoadedModel


class WaitStatus(msgspec.Struct, frozen=True):
    """What a waiting caller receives at once and after every change."""

    # Place in the queue; 1 is next.
    position: int
    # "queue": other models hold the memory. "load": the model is being loaded.
    reason: Literal["queue", "load"]
    # Load progress from 0 to 1.
    load_fraction: float = 0.0
    # The present stage of the load, as the engine reports it.
    load_stage: str = ""
    estimated_wait_s: float | None = None


OnWait = Callable[[WaitStatus], None]


class Waiter:
    """One caller that waits for a model to become ready."""

    def __init__(self, on_wait: OnWait | None) -> None:
        # `begin_use` has already been called on the result for this waiter.
        self.granted: asyncio.Future[LoadedModel] = asyncio.get_running_loop().create_future()
        self._on_wait = on_wait
        self._notified: WaitStatus | None = None

    def notify(self, waiting: WaitStatus) -> None:
        if self._on_wait is not None and waiting != self._notified:
            self._notified = waiting
            self._on_wait(waiting)


class WaitQueue:
    """The callers that wait for one model.

    Args:
        most: how many callers may wait at once.
        on_change: called after a caller joined or left.
    """

    def __init__(self, most: int, on_change: Callable[[], None]) -> None:
        self._most = most
        self._on_change = on_change
        self._waiters: list[Waiter] = []

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait(
        self, on_wait: OnWait | None, leave: Callable[[LoadedModel], None]
    ) -> LoadedModel:
        """Wait until the model is granted.

        Args:
            leave: called with the granted model if the caller was cancelled in the meantime.
        Raises:
            ServingError: the error with which all waiting callers were refused.
            Overloaded: the queue is full.
        """
        if len(self._waiters) >= self._most:
            raise Overloaded(ErrorText("too_many_wait_for_load"), retry_after_s=5)
        waiter = Waiter(on_wait)
        self._waiters.append(waiter)
        self._on_change()
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            granted = waiter.granted
            # The grant may have happened in the same step of the event loop.
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                leave(granted.result())
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._on_change()

    def grant(self, loaded: LoadedModel) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.granted.done():
                loaded.begin_use()
                waiter.granted.set_result(loaded)

    def refuse(self, error: Callable[[], ServingError]) -> None:
        """Give each waiter an error object of its own, because a raised error collects a
        traceback."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.granted.done():
                waiter.granted.set_exception(error())

    def notify(self, waiting: Callable[[int], WaitStatus]) -> None:
        """Send each waiter the status that `waiting` builds for its position; 1 is next."""
        for position, waiter in enumerate(self._waiters, start=1):
            waiter.notify(waiting(position))
