"""Books memory for models before they load, and makes room by evicting idle ones.

First come, first served: the oldest request for room is served first, so that a big model is not
starved by small ones. Everything here is synchronous but the waiting, so each decision sees one
consistent state.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec

from protos.errors import BackendLoadFailed, ServingError
from worker_runtime.memory.probe import MemoryProbe
from worker_runtime.policy import LifecyclePolicy

MIB = 1024**2
MAX_NAMED = 5
MAX_HOLDS = 200


class Tenant(Protocol):
    """What the scheduler needs to know of a model that holds, or wants, memory."""

    @property
    def last_used_s(self) -> float: ...

    @property
    def pin(self) -> str:
        """Its model's id if that is pinned; else empty."""

    def can_evict(self) -> bool:
        """Ready, not pinned, and nobody uses it or waits for it."""

    def evict(self) -> None:
        """Begin to unload; only after `can_evict`. The booking is released when it is done."""


class Booking:
    """Memory held for one model, from before its load until its process is gone.

    Args:
        rung: which of the ways to load it was booked, as an index.
    """

    def __init__(self, tenant: Tenant, need_bytes: int, rung: int = 0) -> None:
        self.tenant = tenant
        self.need_bytes = need_bytes
        self.rung = rung
        self.leaving = False


class _Request(msgspec.Struct):
    booking: Booking
    admitted: asyncio.Future[Booking]


class Scheduler:
    def __init__(self, policy: LifecyclePolicy, probe: MemoryProbe) -> None:
        self._policy = policy
        self._probe = probe
        self._held: list[Booking] = []
        self._requests: list[_Request] = []

    @property
    def n_waiting(self) -> int:
        return len(self._requests)

    @property
    def n_held(self) -> int:
        return len(self._held)

    async def reserve(self, tenant: Tenant, needs: Sequence[int]) -> Booking:
        """Wait for room and book it; cancelling gives the place in the queue up.

        Args:
            needs: bytes of each way to load it, the wanted one first.
        Raises:
            BackendLoadFailed: there can never be room, or now there is none to be made.
        """
        need_bytes = needs[0]
        self._refuse_impossible(need_bytes)
        admitted: asyncio.Future[Booking] = asyncio.get_running_loop().create_future()
        request = _Request(Booking(tenant, need_bytes), admitted)
        self._requests.append(request)
        self.settle()
        try:
            return await admitted
        except asyncio.CancelledError:
            # It may have been admitted in the same step of the loop.
            if admitted.done() and not admitted.cancelled() and admitted.exception() is None:
                self.release(request.booking)
            raise
        finally:
            if request in self._requests:
                self._requests.remove(request)
                self.settle()

    def release(self, booking: Booking) -> None:
        self._held.remove(booking)
        self.settle()

    def settle(self) -> None:
        """Admit whoever fits, evict for the first who does not; call when a model became idle."""
        while self._requests:
            request = self._requests[0]
            if self._fits(request.booking.need_bytes):
                self._requests.pop(0)
                if not request.admitted.done():
                    self._held.append(request.booking)
                    request.admitted.set_result(request.booking)
            elif not self._make_room(request):
                return

    def _make_room(self, request: _Request) -> bool:
        """Evict what the request needs; True if it was refused, so that the next can be tried."""
        need = request.booking.need_bytes
        idle = sorted(
            (b for b in self._held if not b.leaving and b.tenant.can_evict()),
            key=lambda booking: booking.tenant.last_used_s,
        )
        while idle and not self._fits(need, without_leaving=True):
            victim = idle.pop(0)
            victim.leaving = True
            victim.tenant.evict()
        pins = [booking.tenant.pin for booking in self._held]
        if not all(pins):
            return False
        # Nothing of ours can be given up, and waiting would not change that.
        self._requests.remove(request)
        if not request.admitted.done():
            error = _pinned(need, pins) if pins else self._too_little_left(need)
            request.admitted.set_exception(error)
        return True

    def _fits(self, need_bytes: int, *, without_leaving: bool = False) -> bool:
        held = [b for b in self._held if not (without_leaving and b.leaving)]
        leaving_bytes = sum(b.need_bytes for b in self._held) - sum(b.need_bytes for b in held)
        limit, most = self._policy.memory_limit_bytes, self._policy.max_loaded
        if most and len(held) >= most:
            return False
        if limit is not None and sum(b.need_bytes for b in held) + need_bytes > limit:
            return False
        remain = self._policy.min_remain_bytes
        if remain is None:
            return True
        available = self._probe.machine().available_bytes + leaving_bytes
        return available - need_bytes >= remain

    def _refuse_impossible(self, need_bytes: int) -> None:
        limit = self._policy.memory_limit_bytes
        if limit is not None and need_bytes > limit:
            raise _refusal(
                f"it needs about {_mib(need_bytes)}, and the limit for all models of this worker "
                f"is {_mib(limit)}",
                need_bytes,
                ("raise MODEL_MEMORY_LIMIT_GB",),
            )

    def _too_little_left(self, need_bytes: int) -> ServingError:
        available = self._probe.machine().available_bytes
        remain = self._policy.min_remain_bytes or 0
        return _refusal(
            f"it needs about {_mib(need_bytes)}, {_mib(available)} are available, and "
            f"{_mib(remain)} must remain",
            need_bytes,
            ("close other programs", "lower MIN_REMAIN_AFTER_LOAD_GB"),
        )


def _pinned(need_bytes: int, pins: Sequence[str]) -> ServingError:
    return _refusal(
        f"pinned models hold the memory ({', '.join(pins[:MAX_NAMED])})",
        need_bytes,
        tuple(f"unload {pin}: POST /v1/models/unload" for pin in pins[:MAX_NAMED]),
        {"reason": "held_by_pins", "holds": ", ".join(pins)[:MAX_HOLDS]},
    )


def _refusal(
    reason: str, need_bytes: int, ways_out: tuple[str, ...], more: dict[str, str] | None = None
) -> BackendLoadFailed:
    return BackendLoadFailed(
        f"the model does not fit: {reason}",
        suggestions=(*ways_out, "use a smaller or a more strongly quantized model"),
        metadata={"cause": "memory", "needed_bytes": str(need_bytes)} | (more or {}),
    )


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / MIB:,.0f} MiB"
