"""How many threads there are beside other programs."""

import sys
import time

import psutil
import pytest

from tests.busy_program import busy_program
from worker_runtime.machine import cores
from worker_runtime.machine.free_cores import FreeCores, Usage, read_usage

# What a program of low priority uses is counted apart, because it gives way.
of_usual_priority = pytest.mark.skipif(
    sys.platform != "win32" and int(psutil.Process().nice()) > 0,
    reason="these tests run with a low priority",
)


class Busy:
    """Cores on which `others` and this program compute, by a clock that the test sets."""

    def __init__(self, most: int = 2, n_cores: int = 2) -> None:
        self.now = 0.0
        self._everybody = self._own = 0.0
        self.free = FreeCores(
            most, range(n_cores), lambda: self.now, lambda _: self._usage(), lambda: self._own
        )

    def after(self, seconds: float, *, others: float, own: float = 0.0) -> int:
        """The count when both have used so many cores for so long."""
        self.now += seconds
        self._own += own * seconds
        self._everybody += (others + own) * seconds
        return self.free()

    def _usage(self) -> Usage:
        return Usage(self._everybody, self._own)


def test_all_cores_are_used_while_nobody_else_computes() -> None:
    assert Busy().after(10, others=0.0, own=2.0) == 2


def test_own_work_takes_no_core_away() -> None:
    busy = Busy(most=8, n_cores=8)
    assert busy.after(1, others=0.0, own=8.0) == 8


def test_the_gateway_and_its_clients_take_no_core_away() -> None:
    assert Busy().after(1, others=0.4, own=1.6) == 2


def test_a_program_that_gets_half_a_core_beside_us_takes_it() -> None:
    busy = Busy()
    assert busy.after(1, others=0.6, own=1.4) == 2
    assert busy.after(1, others=0.6, own=1.4) == 1
    assert busy.after(1, others=1.0, own=1.0) == 1


def test_a_program_that_only_starts_takes_no_core() -> None:
    busy = Busy()
    for _ in range(5):
        busy.after(1, others=0.0, own=2.0)
        assert busy.after(0.6, others=0.8, own=1.2) == 2


def test_a_client_that_started_in_a_pause_takes_no_core_after_it() -> None:
    busy = Busy()
    for _ in range(5):
        # The end of one answer, the start of the client that asks next, and the next answer.
        busy.after(0.2, others=0.0, own=2.0)
        busy.after(0.3, others=1.0, own=0.0)
        busy.after(0.1, others=0.2, own=1.8)
        assert busy.after(0.5, others=0.1, own=1.9) == 2


def test_a_program_that_stays_is_found_although_there_are_pauses() -> None:
    busy = Busy()
    counts = [2]
    for _ in range(3):
        counts.append(busy.after(0.6, others=1.0, own=1.0))
        counts.append(busy.after(0.6, others=1.0, own=1.0))
        counts.append(busy.after(0.6, others=1.0, own=0.0))
    assert counts[-1] == 1
    assert counts == sorted(counts, reverse=True)


def test_a_core_comes_back_when_the_other_program_ends() -> None:
    busy = Busy()
    busy.after(1, others=1.0, own=1.0)
    busy.after(1, others=1.0, own=1.0)
    assert busy.after(1, others=0.0, own=1.0) == 2


def test_one_thread_is_left_however_busy_the_machine_is() -> None:
    busy = Busy()
    busy.after(1, others=1.4, own=0.6)
    assert busy.after(1, others=1.4, own=0.6) == 1


def test_what_logical_cores_can_take_costs_no_physical_one() -> None:
    busy = Busy(most=4, n_cores=8)
    for _ in range(3):
        assert busy.after(1, others=4.0, own=4.0) == 4
    busy.after(1, others=5.0, own=3.0)
    assert busy.after(1, others=5.0, own=3.0) == 3


def test_what_others_did_in_a_pause_costs_nothing_after_it() -> None:
    busy = Busy()
    assert busy.after(60, others=2.0, own=0.1) == 2


def test_a_program_that_was_there_before_a_pause_and_in_it_is_still_there() -> None:
    busy = Busy()
    busy.after(1, others=1.0, own=1.0)
    busy.after(1, others=1.0, own=1.0)
    assert busy.after(60, others=1.0, own=0.1) == 1


def test_cores_that_were_free_in_a_pause_are_used_after_it() -> None:
    busy = Busy()
    busy.after(1, others=1.0, own=1.0)
    busy.after(1, others=1.0, own=1.0)
    assert busy.after(60, others=0.0, own=0.1) == 2


def test_a_short_moment_says_nothing() -> None:
    busy = Busy()
    assert busy.after(0.2, others=1.2, own=0.8) == 2
    assert busy.after(0.4, others=1.2, own=0.8) == 2
    assert busy.after(0.2, others=1.2, own=0.8) == 2
    assert busy.after(0.4, others=1.2, own=0.8) == 1


def test_a_clock_of_the_system_that_goes_back_does_no_harm() -> None:
    assert Busy().after(1, others=-1.0, own=2.0) == 2


@of_usual_priority
def test_the_system_counts_other_programs_and_this_one_alike() -> None:
    usable = cores.usable()
    before, began = read_usage(usable), time.monotonic()
    while time.monotonic() - began < 1.0:
        pass
    after = read_usage(usable)
    own = after.own - before.own
    # The system counts in ticks of 10 or 16 ms.
    assert after.everybody - before.everybody >= own - 0.1
    assert own > 0.1


@of_usual_priority
def test_a_real_program_that_computes_is_seen() -> None:
    usable = cores.usable()
    before = read_usage(usable)
    with busy_program():
        time.sleep(2.0)
    after = read_usage(usable)
    others = after.everybody - after.own - before.everybody + before.own
    assert others > 0.5
