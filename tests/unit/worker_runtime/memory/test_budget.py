"""The arithmetic of an admission."""

import msgspec

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


def test_models_in_other_containers_count_for_the_machine_and_not_for_this_one_s_limit() -> None:
    elsewhere = (Claim(60, 20),)
    roomy = MemoryBudget(100, 10, None, (Claim(30, 10),), elsewhere=elsewhere, machine_bytes=500)
    assert roomy.free_bytes() == 70
    tight = msgspec.structs.replace(roomy, machine_bytes=100)
    assert tight.free_bytes() == 40
    # Were they gone, 20 bytes more of the machine would be free, and the container's limit counts.
    assert tight.free_bytes(without_others=True) == 70
    assert tight.machine_free_bytes() == 40
    assert tight.machine_free_bytes(tight.claims) == 70
