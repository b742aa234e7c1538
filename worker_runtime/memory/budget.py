"""How much memory there is for models, at one moment: the arithmetic of every admission.

Two bounds count. The budget is what the worker may book in all. The machine's is what is available
now, less what was promised and is not yet taken, less the headroom that everybody else keeps.
"""

import msgspec

LEAST_HEADROOM_BYTES = 512 << 20
# Nobody else lives in a container, but the worker itself and what the kernel counts late.
LEAST_CONTAINER_HEADROOM_BYTES = 64 << 20
HEADROOM_SHARE = 10  # one part of so many of the machine's memory


def default_headroom_bytes(total_bytes: int) -> int:
    """What a machine of that size needs for everything else: 10 %, 512 MiB at the least."""
    return max(LEAST_HEADROOM_BYTES, total_bytes // HEADROOM_SHARE)


def container_headroom_bytes(limit_bytes: int) -> int:
    """What stays free below a container's or control group's limit: 10 %, 64 MiB at the least."""
    return max(LEAST_CONTAINER_HEADROOM_BYTES, limit_bytes // HEADROOM_SHARE)


class Claim(msgspec.Struct, frozen=True):
    """Memory of one model.

    Args:
        booked_bytes: what it may take in all.
        taken_bytes: anonymous memory of its process: gone from what is available, and back once
            the process ends. Mapped pages count as available, though the model needs them.
    """

    booked_bytes: int
    taken_bytes: int = 0

    @property
    def held_bytes(self) -> int:
        """What the machine gets back when it goes; a process may take more than was booked."""
        return max(self.booked_bytes, self.taken_bytes)

    @property
    def promised_bytes(self) -> int:
        return max(self.booked_bytes - self.taken_bytes, 0)


class MemoryBudget(msgspec.Struct, frozen=True):
    """
    Args:
        available_bytes: of the machine, or of this process's container; None: not looked at.
        headroom_bytes: of those, what must remain.
        limit_bytes: of all bookings of this worker; None: none.
        claims: of this worker's models.
        others: of other workers' models on this machine.
        container_bytes: the memory limit of the container or control group that leaves the least;
            None: the machine itself does.
    """

    available_bytes: int | None
    headroom_bytes: int
    limit_bytes: int | None
    claims: tuple[Claim, ...]
    others: tuple[Claim, ...] = ()
    container_bytes: int | None = None

    def free_bytes(
        self, gone: tuple[Claim, ...] = (), *, without_others: bool = False
    ) -> int | None:
        """What could be booked if the models of `gone` were not there; None: as much as you like.

        It may be negative.

        Args:
            gone: of this worker's claims.
            without_others: as if other workers' models were not there either.
        """
        booked = sum(claim.booked_bytes for claim in self.claims)
        given_up = sum(claim.booked_bytes for claim in gone)
        budget = None if self.limit_bytes is None else self.limit_bytes - booked + given_up
        if self.available_bytes is None:
            return budget
        promised = sum(claim.promised_bytes for claim in (*self.claims, *self.others))
        leaving = (*gone, *self.others) if without_others else gone
        freed = sum(claim.held_bytes for claim in leaving)
        machine = self.available_bytes - self.headroom_bytes - promised + freed
        return machine if budget is None else min(machine, budget)

    def fits(
        self, need_bytes: int, gone: tuple[Claim, ...] = (), *, without_others: bool = False
    ) -> bool:
        free = self.free_bytes(gone, without_others=without_others)
        return free is None or need_bytes <= free
