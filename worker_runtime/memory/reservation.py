"""Memory held for a model, and what memory admission has to know of the model that holds it."""

from typing import Protocol

import msgspec

from worker_runtime.catalog import Capability


class Tenant(Protocol):
    """What memory admission needs to know of a model that holds, or wants, memory."""

    @property
    def name(self) -> str: ...

    @property
    def capability(self) -> Capability: ...

    @property
    def last_used_s(self) -> float: ...

    @property
    def is_pinned(self) -> bool:
        """To stay until it is unloaded by hand."""

    def can_evict(self) -> bool:
        """Ready, not pinned, and nobody uses it or waits for it."""

    def can_yield(self) -> bool:
        """Ready, and its turn is over, though it may be in use."""

    def evict(self) -> None:
        """Begin to unload once its leases end; only after `can_evict` or `can_yield`. The
        reservation is released when it is done."""


class Reservation:
    """Memory held for one model, from before its load until its process is gone.

    Args:
        option: which of the load options was reserved, as an index.
    """

    # Of the process that takes the memory; 0 before there is one.
    pid = 0

    def __init__(self, tenant: Tenant, need_bytes: int, option: int = 0) -> None:
        self.tenant = tenant
        self.need_bytes = need_bytes
        self.option = option
        self.leaving = False


class Holdings(msgspec.Struct, frozen=True):
    """What is booked on this machine, and within which bounds; in bytes."""

    booked_bytes: int
    limit_bytes: int | None
    others_booked_bytes: int
    headroom_bytes: int
