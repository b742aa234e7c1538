"""Those who wait for one model: they are told how it goes, then granted or refused together."""

import asyncio
from collections.abc import Callable
from typing import Literal

import msgspec

from common.error_texts import ErrorText
from common.errors import Overloaded, ServingError
from worker_runtime.lifecycle.leases import LoadedModel


class WaitStatus(msgspec.Struct, frozen=True):
    """What a waiting caller is told, at once and whenever it changes."""

    # 1 is next.
    position: int
    # "queue": other models hold the memory; "load": the model is being loaded.
    reason: Literal["queue", "load"]
    # 0 to 1.
    load_fraction: float = 0.0
    # What the load is doing, in the engine's words.
    load_stage: str = ""
    estimated_wait_s: float | None = None


OnWait = Callable[[WaitStatus], None]


class Waiter:
    """One caller that waits for a model to become ready."""

    def __init__(self, on_wait: OnWait | None) -> None:
        # Its `begin_use` has been called for this waiter.
        self.granted: asyncio.Future[LoadedModel] = asyncio.get_running_loop().create_future()
        self._on_wait = on_wait
        self._notified: WaitStatus | None = None

    def notify(self, waiting: WaitStatus) -> None:
        if self._on_wait is not None and waiting != self._notified:
            self._notified = waiting
            self._on_wait(waiting)


class WaitQueue:
    """
    Args:
        most: how many may wait at once.
        on_change: called when somebody came or went.
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
        """Wait to be granted. `leave` gives back what was granted to a caller that left meanwhile.

        Raises:
            ServingError: what all that wait were refused with.
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
            # It may have been granted in the same step of the loop.
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
        """Each waiter gets an error object of its own, as a raised one collects its traceback."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.granted.done():
                waiter.granted.set_exception(error())

    def notify(self, waiting: Callable[[int], WaitStatus]) -> None:
        """Tell everybody what `waiting` makes of their position, 1 being next."""
        for position, waiter in enumerate(self._waiters, start=1):
            waiter.notify(waiting(position))
