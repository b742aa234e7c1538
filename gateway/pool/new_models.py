"""Lets workers scan their models folders: on request, and before an unknown model is refused."""

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple

from common.errors import ServingError
from gateway.pool.calls import rescan
from gateway.pool.endpoint import Endpoint
from protos.y26hkx.v1 import worker_pb2

if TYPE_CHECKING:
    from gateway.pool import Pool

# Requests for unknown models cause scans during a tenth of the time at most.
PAUSES = 10
# An answer is not held back for longer, where a disk is slow.
WITHIN_S = 5.0
# A name that stays unknown causes scans after such pauses, each twice as long as the one before:
# apps may ask for the same all the time, where the default model answers.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
MAX_NAMES = 256


class _Missed(NamedTuple):
    """When the next scan for a name may begin, and how long the pause after it will be."""

    next_s: float
    pause_s: float


class NewModels:
    """Models that were added since the workers' last scan."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._looking: asyncio.Task[None] | None = None
        # When the next scan may begin.
        self._next_s = 0.0
        self._missed: dict[str, _Missed] = {}

    async def look(self, name: str) -> None:
        """Scan before an unknown model is refused. Requests that come meanwhile wait for it."""
        now_s = time.monotonic()
        missed = self._missed.pop(name, _Missed(now_s, FIRST_PAUSE_S))
        is_due = now_s >= missed.next_s
        if is_due:
            longer_s = min(2 * missed.pause_s, LONGEST_PAUSE_S)
            missed = _Missed(now_s + missed.pause_s, longer_s)
        self._missed[name] = missed
        if len(self._missed) > MAX_NAMES:
            del self._missed[next(iter(self._missed))]
        if is_due:
            await self._look_soon()

    async def _look_soon(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        await asyncio.shield(self._looking)

    async def scan(self, timeout_s: float) -> list[worker_pb2.Model]:
        """Scan on all workers, and return what they found.

        Raises:
            ServingError: a worker cannot.
        """
        workers = self._workers()
        found = await asyncio.gather(*(rescan(worker, timeout_s) for worker in workers))
        for worker, reply in zip(workers, found, strict=True):
            worker.hear_models(reply.models)
        return [model for reply in found for model in reply.models]

    async def _look(self) -> None:
        await asyncio.sleep(max(self._next_s - time.monotonic(), 0))
        began_s = time.monotonic()
        with contextlib.suppress(ServingError):
            # The request itself gets a better error.
            await self.scan(WITHIN_S)
        ended_s = time.monotonic()
        self._next_s = ended_s + min(PAUSES * (ended_s - began_s), WITHIN_S)

    def _workers(self) -> list[Endpoint]:
        serving = [*self._pool.chat.serving, *self._pool.embed.serving]
        return list({id(worker): worker for worker in serving}.values())
