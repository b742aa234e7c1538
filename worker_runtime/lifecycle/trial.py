"""A load that nobody waits for: it takes only memory that nobody lacks, and it ends as soon as a
request comes or its memory is wanted."""

import asyncio
from collections.abc import Callable

import msgspec

from worker_runtime.aio import first_of, to_the_end
from worker_runtime.catalog import Capability
from worker_runtime.lifecycle.load import LifecycleContext, load_in_process, load_timeout
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.memory.reservation import Reservation

# How soon a trial notices a request.
LOOK_S = 0.1


class Tried(msgspec.Struct, frozen=True):
    """What a load reported, and the memory that its process held at most."""

    facts: msgspec.Raw
    memory_bytes: int


class Trial:
    """One load; a tenant that memory admission evicts before all others."""

    last_used_s = float("-inf")
    is_pinned = False

    def __init__(self, option: LoadOption, context: LifecycleContext) -> None:
        self._option = option
        self._context = context
        self._is_unwanted = asyncio.Event()

    @property
    def name(self) -> str:
        return f"{self._option.entry.id} (trial)"

    @property
    def capability(self) -> Capability:
        return self._option.entry.capability

    @property
    def priority(self) -> int:
        return 0

    def can_evict(self) -> bool:
        return not self._is_unwanted.is_set()

    can_yield = can_evict

    def limit_caches(self, max_bytes: int) -> None:
        """Do nothing: it keeps no past work."""

    def evict(self) -> None:
        self._is_unwanted.set()

    async def run(self, is_busy: Callable[[], bool]) -> Tried | None:
        """Load the option, and end its process.

        Args:
            is_busy: whether a request is served or waits.
        Returns:
            None if there was not enough memory, or if it was cut short.
        Raises:
            ServingError: it could not be loaded.
        """
        context = self._context
        (option,) = await context.kernels.allowed([self._option])
        reservation = context.admission.reserve_free(self, option.need.total)
        if reservation is None:
            return None
        limit_s = context.policy.load_timeout_s
        try:
            return await first_of(
                self._tried(option, reservation),
                self._is_unwanted.wait(),
                self._until(is_busy),
                load_timeout(option.entry, context.policy, context.clock, limit_s),
            )
        finally:
            context.admission.release(reservation)

    async def _tried(self, option: LoadOption, reservation: Reservation) -> Tried:
        context = self._context
        loaded = await load_in_process(
            option,
            context.launcher,
            context.policy,
            context.clock,
            lambda fraction, stage: None,
            lambda pid: context.admission.begin(reservation, pid),
        )
        held, engine = loaded.memory(context.probe), loaded.engine
        await to_the_end(engine.stop(context.policy.stop_grace_s), on_cancel=engine.kill)
        return Tried(loaded.facts, max(held.resident_bytes, held.peak_bytes))

    async def _until(self, is_busy: Callable[[], bool]) -> None:
        while not is_busy():
            await self._context.clock.sleep(LOOK_S)
