"""Lets workers scan their models folders: on request, and before an unknown model is refused."""

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

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


class NewModels:
    """Models that were added since the workers' last scan."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._looking: asyncio.Task[None] | None = None
        # When the next scan may begin.
        self._next_s = 0.0

    async def look(self) -> None:
        """Scan before an unknown model is refused. Requests that come meanwhile wait for it."""
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
