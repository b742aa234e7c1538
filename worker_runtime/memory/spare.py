"""Spare memory: what models get for their caches beyond what they need, as far as it is free.

It is booked like all memory of a model, and taken back before any model is evicted for another.
"""

from collections.abc import Iterable

from worker_runtime.memory.reservation import Reservation

# The share of free memory that a model gets; the rest is for other models.
SHARE = 0.5


def spare_of(free_bytes: int | None, wanted_bytes: int) -> int:
    """How much of the wanted spare memory a model gets.

    Args:
        free_bytes: what is free beside its need; None: without limit.
    """
    if free_bytes is None:
        return wanted_bytes
    return max(min(wanted_bytes, int(free_bytes * SHARE)), 0)


def take_back(held: Iterable[Reservation], missing_bytes: int) -> int:
    """Take spare memory from models, the least recently used first, until `missing_bytes` are
    reached. Returns how many bytes."""
    n_bytes = 0
    for reservation in sorted(held, key=lambda r: r.tenant.last_used_s):
        if n_bytes >= missing_bytes:
            break
        if not reservation.leaving and reservation.spare_bytes:
            n_bytes += reservation.spare_bytes
            reservation.change_spare(0)
    return n_bytes


def grant_again(held: Iterable[Reservation], free_bytes: int | None) -> None:
    """Give one model that has less spare memory than it may have all of it, if that is free."""
    for reservation in held:
        wanted = reservation.wanted_spare_bytes
        more = wanted - reservation.spare_bytes
        is_there = reservation.pid and not reservation.leaving
        if is_there and more > 0 and spare_of(free_bytes, more) == more:
            reservation.change_spare(wanted)
            return
