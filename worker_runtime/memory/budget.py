"""The arithmetic of admission: how much memory is free for models at one moment.

There are two bounds. The worker's limit bounds the sum of its reservations. The machine's bound is
the available memory, minus what is reserved but not yet taken, minus the headroom.
"""

import msgspec

LEAST_HEADROOM_BYTES = 512 << 20
# In a container there are only the worker itself and what the kernel counts late.
LEAST_CONTAINER_HEADROOM_BYTES = 64 << 20
HEADROOM_SHARE = 10  # the headroom is one tenth of the memory of the machine or container


def default_headroom_bytes(total_bytes: int) -> int:
    """Memory to leave free for all other programs: 10 % of the machine, at least 512 MiB."""
    return max(LEAST_HEADROOM_BYTES, total_bytes // HEADROOM_SHARE)


def container_headroom_bytes(limit_bytes: int) -> int:
    """What stays free below a container's or control group's limit: 10 %, 64 MiB at the least."""
    return max(LEAST_CONTAINER_HEADROOM_BYTES, limit_bytes // HEADROOM_SHARE)


class Claim(msgspec.Struct, frozen=True):
    """The memory of one model.

    Args:
        booked_bytes: the reservation: the most that it should take.
        taken_bytes: anonymous memory of its process, which is no longer available and becomes
            available when the process ends. Mapped pages still count as available.
    """

    booked_bytes: int
    taken_bytes: int = 0

    @property
    def held_bytes(self) -> int:
        """What the machine regains when the model goes; a process may exceed its reservation."""
        return max(self.booked_bytes, self.taken_bytes)

    @property
    def promised_bytes(self) -> int:
        return max(self.booked_bytes - self.taken_bytes, 0)


class MemoryBudget(msgspec.Struct, frozen=True):
    """The memory at one moment, from which admissions are computed.

    Args:
        available_bytes: of the machine or of this process's container; None: do not check it.
        headroom_bytes: the part of the available memory that must stay free.
        limit_bytes: the most that this worker may reserve in total; None: no limit.
        claims: memory of this worker's models.
        others: memory of other workers' models on this machine.
        container_bytes: limit of the container or control group that leaves the least memory; None:
            the machine itself does.
        elsewhere: memory of models in other containers of this machine, which count in
            `machine_bytes` only.
        machine_bytes: free for models in the whole machine, whatever this container's limit; None:
            the same as here.
    """

    available_bytes: int | None
    headroom_bytes: int
    limit_bytes: int | None
    claims: tuple[Claim, ...]
    others: tuple[Claim, ...] = ()
    container_bytes: int | None = None
    elsewhere: tuple[Claim, ...] = ()
    machine_bytes: int | None = None

    def free_bytes(
        self, gone: tuple[Claim, ...] = (), *, without_others: bool = False
    ) -> int | None:
        """What could be reserved if the models in `gone` were unloaded; None: without limit.

        The result may be negative.

        Args:
            gone: some of this worker's claims.
            without_others: count other workers' models as unloaded too.
        """
        booked = sum(claim.booked_bytes for claim in self.claims)
        given_up = sum(claim.booked_bytes for claim in gone)
        budget = None if self.limit_bytes is None else self.limit_bytes - booked + given_up
        if self.available_bytes is None:
            return budget
        leaving = (*gone, *self.others) if without_others else gone
        here = self.available_bytes - self.headroom_bytes
        bounds = [here + _change((*self.claims, *self.others), leaving)]
        if self.elsewhere:
            leaving = (*leaving, *self.elsewhere) if without_others else leaving
            bounds.append(self._of_machine(here, leaving))
        return min([*bounds, *([] if budget is None else [budget])])

    def machine_free_bytes(self, gone: tuple[Claim, ...] = ()) -> int | None:
        """The same without any container's limit and this worker's own; None: it is not checked."""
        if self.available_bytes is None:
            return None
        return self._of_machine(self.available_bytes - self.headroom_bytes, gone)

    def _of_machine(self, here_bytes: int, leaving: tuple[Claim, ...]) -> int:
        free = here_bytes if self.machine_bytes is None else self.machine_bytes
        return free + _change((*self.claims, *self.others, *self.elsewhere), leaving)

    def fits(
        self, need_bytes: int, gone: tuple[Claim, ...] = (), *, without_others: bool = False
    ) -> bool:
        free = self.free_bytes(gone, without_others=without_others)
        return free is None or need_bytes <= free


def _change(claims: tuple[Claim, ...], leaving: tuple[Claim, ...]) -> int:
    """What becomes of available bytes when claims take all of theirs and those leaving end."""
    promised = sum(claim.promised_bytes for claim in claims)
    return sum(claim.held_bytes for claim in leaving) - promised
