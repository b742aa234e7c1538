"""Memory as status shows it: cgroup limits, trend, leaks."""

import os
from pathlib import Path

from tests.unit.worker_runtime.fakes import FakeClock, FakeProbe
from worker_runtime.memory import probe as probe_module
from worker_runtime.memory.monitor import MemoryMonitor
from worker_runtime.memory.probe import SystemMemoryProbe

MIB = 1 << 20


class GrowingProbe(FakeProbe):
    worker_bytes = 100 * MIB

    def resident_bytes(self, pid: int) -> int:
        return self.worker_bytes


def watched(seconds: int, growth_bytes: int, *, engine_from_s: int = 0) -> MemoryMonitor:
    clock, probe = FakeClock(), GrowingProbe()
    monitor = MemoryMonitor(probe, clock)
    for second in range(seconds):
        clock.now_s += 1
        probe.worker_bytes += growth_bytes
        monitor.reading({7: 500 * MIB} if second >= engine_from_s else {})
    return monitor


def test_the_real_probe_sees_this_machine_and_this_process() -> None:
    probe = SystemMemoryProbe()
    machine = probe.machine()
    assert 0 < machine.available_bytes <= machine.total_bytes
    assert probe.resident_bytes(os.getpid()) > 10 * MIB
    assert probe.resident_bytes(2**22 + 12345) == 0


def test_the_smallest_limit_of_the_cgroups_above_counts_without_page_cache(
    tmp_path: Path,
) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    for folder, limit, used, cache in ((inner.parent, "1000", 900, 300), (inner, "max", 5, 0)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")
    found = list(probe_module._limits(tmp_path, "/outer/inner", probe_module._limit_v2))
    assert found == [(1000, 600)]


def test_cgroup_v1_limits_are_read_and_its_unlimited_is_none(tmp_path: Path) -> None:
    group = tmp_path / "docker"
    group.mkdir()
    for folder, limit in ((tmp_path, 0x7FFFFFFFFFFFF000), (group, 2000)):
        (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (folder / "memory.usage_in_bytes").write_text("1500\n")
        (folder / "memory.stat").write_text("total_inactive_file 500\n")
    found = list(probe_module._limits(tmp_path, "/docker", probe_module._limit_v1))
    assert found == [(2000, 1000)]


def test_watchers_share_one_sample_a_second() -> None:
    clock, probe = FakeClock(), GrowingProbe()
    monitor = MemoryMonitor(probe, clock)
    first = monitor.reading({})
    probe.worker_bytes += MIB
    assert monitor.reading({}) is first
    clock.now_s += 1
    assert monitor.reading({}).worker_bytes == first.worker_bytes + MIB


def test_steady_memory_is_stable() -> None:
    reading = watched(900, 0).reading({7: 500 * MIB})
    assert (reading.trend, reading.leak_detected) == ("stable", False)


def test_growing_memory_is_increasing_and_in_the_end_a_leak() -> None:
    assert watched(300, MIB).reading({7: 500 * MIB}).trend == "increasing"
    assert not watched(300, MIB).reading({7: 500 * MIB}).leak_detected
    assert watched(900, MIB).reading({7: 500 * MIB}).leak_detected


def test_another_engine_is_no_leak() -> None:
    monitor = watched(900, MIB, engine_from_s=600)
    assert not monitor.reading({7: 500 * MIB}).leak_detected
