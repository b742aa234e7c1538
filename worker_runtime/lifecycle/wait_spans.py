"""The trace of what a request waits for until its model is ready: memory, then the load."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from common.tracing import Span
from worker_runtime.lifecycle.leases import Lease
from worker_runtime.lifecycle.wait_queue import OnWait, WaitStatus


@asynccontextmanager
async def traced_lease(
    parent: Span,
    on_wait: OnWait | None,
    lease: Callable[[OnWait], AbstractAsyncContextManager[Lease]],
) -> AsyncIterator[Lease]:
    """A lease with a span for each thing that it waited for.

    Args:
        on_wait: of the caller.
        lease: gets the lease, and tells what it waits for.
    """
    waits = _Waits(parent, on_wait)
    try:
        async with lease(waits.note) as held:
            waits.end()
            yield held
    finally:
        waits.end()


class _Waits:
    def __init__(self, parent: Span, on_wait: OnWait | None) -> None:
        self._parent = parent
        self._on_wait = on_wait
        self._reason = ""
        self._span: Span | None = None

    def note(self, waiting: WaitStatus) -> None:
        if waiting.reason != self._reason:
            self.end()
            self._reason = waiting.reason
            self._span = self._parent.child(waiting.reason)
        if self._on_wait is not None:
            self._on_wait(waiting)

    def end(self) -> None:
        if self._span is not None:
            self._span.end()
            self._span = None
