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
    def is_pinned(self) -> bool:
        """Whether the model stays loaded until it is unloaded by hand."""

    def can_evict(self) -> bool:
        """Whether it is ready and not pinned, and nobody uses it or waits for it."""

    def can_yield(self) -> bool:
        """Whether it is ready and has been loaded for its minimum time; it may be in use."""

    def evict(self) -> None:
        """Begin to unload when the leases end; only after `can_evict` or `can_yield` was true. The
        reservation is released after the unload."""


class Reservation:
    """Memory reserved for one model, from before its load until its process has ended.

    Args:
        option: index of the load option that was reserved.
    """

    # The process that takes the memory; 0 before it has started.
    pid = 0

    def __init__(self, tenant: Tenant, need_bytes: int, option: int = 0) -> None:
        self.tenant = tenant
        self.need_bytes = need_bytes
        self.option = option
        self.leaving = False


class Holdings(msgspec.Struct, frozen=True):
    """Bytes reserved on this machine, and the limits that apply."""

    booked_bytes: int
    limit_bytes: int | None
    others_booked_bytes: int
    headroom_bytes: int
