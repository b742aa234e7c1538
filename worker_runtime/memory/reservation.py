"""A reservation of memory, and what memory admission needs to know about the model it is for."""

from typing import Protocol

import msgspec

from worker_runtime.catalog import Capability


class Tenant(Protocol):
    """A model that holds or requests memory, as memory admission sees it."""

    @property
    def name(self) -> str: ...

    @property
    def capability(self) -> Capability: ...

    @property
    def last_used_s(self) -> float: ...

    @property
    def priority(self) -> int:
        """Of models that may be evicted, those with the lowest go first."""

    @property
    def is_pinned(self) -> bool:
        """Whether the model stays loaded until it is unloaded by hand."""

    def can_evict(self) -> bool:
        """Whether it is ready and not pinned, and nobody uses it or waits for it."""

    def can_yield(self) -> bool:
        """Whether it is ready and has been loaded for its minimum time; it may be in use."""

    def limit_caches(self, max_bytes: int) -> None:
        """Keep no more than `max_bytes` of past work beyond what the model always takes; nothing
        happens if it is not loaded."""

    def evict(self) -> None:
        """Begin to unload when the leases end; only after `can_evict` or `can_yield` was true. The
        reservation is released after the unload."""


class Reservation:
    """Memory reserved for one model, from before its load until its process has ended.

    Args:
        option: index of the load option that was reserved.
        spare_bytes: the part of `need_bytes` that is taken back when other models need it.
        wanted_spare_bytes: how large that part may become.
    """

    # The process that takes the memory; 0 before it has started.
    pid = 0

    def __init__(
        self,
        tenant: Tenant,
        need_bytes: int,
        option: int = 0,
        *,
        spare_bytes: int = 0,
        wanted_spare_bytes: int = 0,
    ) -> None:
        self.tenant = tenant
        self.need_bytes = need_bytes
        self.option = option
        self.spare_bytes = spare_bytes
        self.wanted_spare_bytes = wanted_spare_bytes
        self.leaving = False

    def change_spare(self, n_bytes: int) -> None:
        """Book `n_bytes` of spare memory from now on, and let the model use as much."""
        self.need_bytes += n_bytes - self.spare_bytes
        self.spare_bytes = n_bytes
        self.tenant.limit_caches(n_bytes)


class Holdings(msgspec.Struct, frozen=True):
    """Bytes reserved on this machine, and the limits that apply."""

    booked_bytes: int
    limit_bytes: int | None
    others_booked_bytes: int
    headroom_bytes: int
