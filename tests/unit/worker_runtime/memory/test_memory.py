"""Memory as status shows it: trend, leaks, pressure."""

import os
from pathlib import Path

import msgspec

from tests.unit.worker_runtime.fakes import FakeClock, FakeProbe
from worker_runtime.memory.monitor import EngineMemory, MemoryMonitor, MemoryReading
from worker_runtime.memory.pressure import PressureGate, Stall, read_stall
from worker_runtime.memory.probe import ProcessMemory, SystemMemoryProbe

MIB = 1 << 20


class GrowingProbe(FakeProbe):
    worker_bytes = 100 * MIB
    stalled = Stall()

    def process(self, pid: int) -> ProcessMemory:
        return ProcessMemory(self.worker_bytes)

    def stall(self) -> Stall:
        return self.stalled


def engine(anonymous_bytes: int = 500 * MIB, n_requests: int = 0, **rest: int) -> EngineMemory:
    mapped = rest.get("mapped_bytes", 0)
    return EngineMemory(7, anonymous_bytes, mapped, is_idle=True, n_requests=n_requests)


def watched(seconds: int, growth_bytes: int) -> MemoryMonitor:
    clock, probe = FakeClock(), GrowingProbe()
    monitor = MemoryMonitor(probe, clock)
    for _ in range(seconds):
        clock.now_s += 1
        probe.worker_bytes += growth_bytes
        monitor.reading([engine()])
    return monitor


def after_rounds(held: list[EngineMemory]) -> MemoryReading:
    """The last reading, after the engine held these at its idle floors, one a round of work."""
    clock = FakeClock()
    monitor = MemoryMonitor(GrowingProbe(), clock)
    for one in held:
        clock.now_s += 5
        reading = monitor.reading([one])
    return reading


def test_the_real_probe_sees_this_machine_and_this_process() -> None:
    probe = SystemMemoryProbe()
    machine = probe.machine()
    assert 0 < machine.available_bytes <= machine.total_bytes
    assert probe.resident_bytes(os.getpid()) > 10 * MIB
    assert probe.resident_bytes(2**22 + 12345) == 0


def test_watchers_share_one_sample_a_second() -> None:
    clock, probe = FakeClock(), GrowingProbe()
    monitor = MemoryMonitor(probe, clock)
    first = monitor.reading([])
    probe.worker_bytes += MIB
    assert monitor.reading([]) is first
    clock.now_s += 1
    assert monitor.reading([]).worker_bytes == first.worker_bytes + MIB


def test_steady_memory_is_stable() -> None:
    reading = watched(900, 0).reading([engine()])
    assert (reading.trend, reading.leak_detected) == ("stable", False)


def test_growing_memory_is_increasing() -> None:
    assert watched(300, MIB).reading([engine()]).trend == "increasing"


def test_anonymous_memory_that_grows_with_every_round_of_work_is_a_leak() -> None:
    rounds = [engine((100 + 30 * i) * MIB, 16 * i) for i in range(1, 9)]
    assert after_rounds(rounds).leaking_pids == {7}


def test_growth_without_work_a_filled_cache_and_mapped_files_are_no_leak() -> None:
    without_work = [engine((100 + 30 * i) * MIB, 16) for i in range(1, 9)]
    cache = [engine(min(100 + 30 * i, 250) * MIB, 16 * i) for i in range(1, 9)]
    mapped = [engine(100 * MIB, 16 * i, mapped_bytes=30 * i * MIB) for i in range(1, 9)]
    for rounds in (without_work, cache, mapped):
        assert not after_rounds(rounds).leak_detected


def test_a_new_process_begins_without_a_past() -> None:
    rounds = [engine((100 + 30 * i) * MIB, 16 * i) for i in range(1, 9)]
    other = msgspec.structs.replace(rounds[-1], pid=8)
    assert not after_rounds([*rounds, other]).leak_detected


def gate_after(stalls: list[tuple[float, float]], step_s: float = 5.0) -> PressureGate:
    clock = FakeClock()
    gate = PressureGate(clock)
    for some, full in stalls:
        gate.note(Stall(some, full))
        clock.now_s += step_s
    return gate


def test_nothing_is_loaded_while_some_wait_for_memory_and_the_bar_to_go_on_is_lower() -> None:
    assert gate_after([(0.09, 0)]).may_load
    assert not gate_after([(0.12, 0)]).may_load
    assert not gate_after([(0.12, 0), (0.07, 0)]).may_load
    assert gate_after([(0.12, 0), (0.04, 0)]).may_load


def test_models_are_given_back_only_under_full_pressure_that_lasts() -> None:
    assert not gate_after([(0.2, 0.1)]).take_turn()
    assert not gate_after([(0.2, 0.1), (0.2, 0.0), (0.2, 0.1)]).take_turn()
    assert gate_after([(0.2, 0.1)] * 3).take_turn()
    assert gate_after([(0.2, 0.1)] * 3 + [(0.2, 0.02)]).take_turn()
    assert not gate_after([(0.2, 0.1)] * 3 + [(0.2, 0.005)]).take_turn()


def test_under_full_pressure_models_go_one_by_one_as_the_figures_lag() -> None:
    clock = FakeClock()
    gate = PressureGate(clock)
    turns = []
    for _ in range(22):
        gate.note(Stall(0.5, 0.5))
        turns.append(gate.take_turn())
        clock.now_s += 1
    assert [second for second, turn in enumerate(turns) if turn] == [10, 15, 20]


def test_the_kernels_own_words_are_read(tmp_path: Path) -> None:
    file = tmp_path / "memory"
    file.write_text(
        "some avg10=12.50 avg60=1.00 avg300=0.00 total=7\n"
        "full avg10=3.25 avg60=0.00 avg300=0.00 total=5\n"
    )
    assert read_stall(file) == Stall(0.125, 0.0325)
    assert read_stall(tmp_path / "missing") == Stall()
    file.write_text("no such words\nsome avg10=x\n")
    assert read_stall(file) == Stall()
