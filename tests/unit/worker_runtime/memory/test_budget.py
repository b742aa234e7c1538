"""The arithmetic of an admission."""

from worker_runtime.memory.budget import Claim, MemoryBudget

ROOM = MemoryBudget(
    available_bytes=100,
    headroom_bytes=10,
    limit_bytes=50,
    claims=(Claim(30, 30),),
    others=(Claim(60, 20),),
)


def test_what_other_workers_hold_is_no_part_of_this_worker_s_limit() -> None:
    assert ROOM.free_bytes() == 20
    assert ROOM.free_bytes(without_others=True) == 20
    assert not ROOM.fits(21, without_others=True)
    assert ROOM.free_bytes(ROOM.claims, without_others=True) == 50


def test_what_other_workers_hold_of_the_machine_could_be_given_back() -> None:
    machine = MemoryBudget(100, 10, None, (), ROOM.others)
    assert machine.free_bytes() == 50
    assert machine.free_bytes(without_others=True) == 110
