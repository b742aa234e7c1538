"""The machine's memory as the kernel tells it, on recorded trees of /proc and /sys/fs/cgroup."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from common.cgroup import allowances, groups, oom_kills
from worker_runtime.memory.pressure import Stall
from worker_runtime.memory.probe import MachineMemory, SystemMemoryProbe

MIB = 1 << 20
NO_LIMIT_V1 = 0x7FFFFFFFFFFFF000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")


class V2(NamedTuple):
    """One group's files, in MiB."""

    limit: int | None
    used: int
    cache: int = 0
    high: int | None = None

    def files(self) -> dict[str, str]:
        return {
            "memory.max": _or_max(self.limit),
            "memory.high": _or_max(self.high),
            "memory.current": f"{self.used * MIB}\n",
            "memory.stat": f"anon 4096\ninactive_file {self.cache * MIB // 2}\n"
            f"active_file {self.cache * MIB // 4}\nslab_reclaimable {self.cache * MIB // 4}\n",
        }


class V1(NamedTuple):
    limit: int | None
    used: int
    cache: int = 0
    above: int | None = None

    def files(self) -> dict[str, str]:
        limit = NO_LIMIT_V1 if self.limit is None else self.limit * MIB
        return {
            "memory.limit_in_bytes": f"{limit}\n",
            "memory.usage_in_bytes": f"{self.used * MIB}\n",
            "memory.stat": f"inactive_file 4096\ntotal_inactive_file {self.cache * MIB // 2}\n"
            f"total_active_file {self.cache * MIB // 2}\nhierarchical_memory_limit "
            f"{limit if self.above is None else self.above * MIB}\n",
        }


def _or_max(mib: int | None) -> str:
    return "max\n" if mib is None else f"{mib * MIB}\n"


class Tree(NamedTuple):
    """What a machine of 8,192 MiB, of which 6,000 are available, shows a process of its groups."""

    own: str
    mounts: tuple[str, ...]
    groups: dict[str, V1 | V2]

    def write(self, root: Path) -> SystemMemoryProbe:
        _write(root / "proc/meminfo", meminfo(available_mib=6000))
        _write(root / "proc/self/cgroup", self.own)
        _write(root / "proc/self/mountinfo", "".join(f"{line}\n" for line in self.mounts))
        for folder, group in self.groups.items():
            for name, text in group.files().items():
                _write(root / folder.lstrip("/") / name, text)
        return SystemMemoryProbe(root)


def meminfo(available_mib: int | None) -> str:
    lines = {"MemTotal": 8192, "MemFree": 1000, "MemAvailable": available_mib, "Cached": 3000}
    shown = (f"{name}: {mib << 10} kB" for name, mib in lines.items() if mib is not None)
    return "\n".join([*shown, "HugePages_Total:       0", ""])


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


SYSFS = "22 20 0:20 / /sys rw - sysfs sysfs rw"
TWO = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
ONE = "35 31 0:32 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
CPU = "36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct"
UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
HERE, HERE_ONE = "/sys/fs/cgroup", "/sys/fs/cgroup/memory"

# Each with total and available, in MiB.
RECORDED = {
    "docker with cgroup v2, its own namespace": (
        Tree("0::/\n", (SYSFS, TWO), {HERE: V2(2048, 1500, cache=1000)}),
        (2048, 1548),
    ),
    "a systemd service whose slice has less left than itself": (
        Tree(
            "0::/app.slice/y26.service\n",
            (TWO,),
            {
                f"{HERE}/app.slice": V2(4096, 3900, cache=100),
                f"{HERE}/app.slice/y26.service": V2(2048, 500),
            },
        ),
        (2048, 296),
    ),
    "a service that is slowed down before it is ended": (
        Tree("0::/s\n", (TWO,), {f"{HERE}/s": V2(2048, 100, high=1024)}),
        (1024, 924),
    ),
    "nested containers: the path leads out of the namespace": (
        Tree("0::/../../kubepods/pod1\n", (TWO,), {HERE: V2(1024, 24)}),
        (1024, 1000),
    ),
    "a container that is shown the host's path and its own group": (
        Tree("0::/\n", (TWO.replace(" / /sys", " /../.. /sys"),), {HERE: V2(1024, 24)}),
        (1024, 1000),
    ),
    "docker with cgroup v1": (
        Tree(
            "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n",
            (CPU, ONE.format(top="/docker/ab")),
            {HERE_ONE: V1(1024, 900, cache=400)},
        ),
        (1024, 524),
    ),
    "docker with cgroup v1, whose mount is shown from the top": (
        Tree(
            "4:memory:/docker/ab\n",
            (ONE.format(top="/"),),
            {HERE_ONE: V1(None, 5000), f"{HERE_ONE}/docker/ab": V1(1024, 900)},
        ),
        (1024, 124),
    ),
    "cgroup v1 with a limit above what is shown": (
        Tree("4:memory:/\n", (ONE.format(top="/"),), {HERE_ONE: V1(None, 200, above=512)}),
        (512, 312),
    ),
    "hybrid: memory by v1, v2 only for systemd": (
        Tree(
            "4:memory:/user.slice\n1:name=systemd:/user.slice\n0::/user.slice\n",
            (CPU, ONE.format(top="/"), UNIFIED),
            {f"{HERE_ONE}/user.slice": V1(3072, 72)},
        ),
        (3072, 3000),
    ),
    "kubernetes: the pod's other container takes the pod's memory": (
        Tree(
            "0::/kubepods.slice/pod1.slice/cri-1.scope\n",
            (TWO,),
            {
                f"{HERE}/kubepods.slice": V2(7000, 4000),
                f"{HERE}/kubepods.slice/pod1.slice": V2(2048, 2000),
                f"{HERE}/kubepods.slice/pod1.slice/cri-1.scope": V2(None, 300),
            },
        ),
        (2048, 48),
    ),
    "more used than the limit, as right after it was lowered": (
        Tree("0::/s\n", (TWO,), {f"{HERE}/s": V2(512, 600)}),
        (512, 0),
    ),
    "a limit above what the machine has": (
        Tree("0::/s\n", (TWO,), {f"{HERE}/s": V2(99999, 600)}),
        (8192, 6000),
    ),
    "no limit anywhere": (
        Tree("0::/s\n", (TWO,), {f"{HERE}/s": V2(None, 600)}),
        (8192, 6000),
    ),
    "WSL: nothing is mounted": (Tree("0::/\n", (SYSFS,), {}), (8192, 6000)),
    "no control groups": (Tree("", (SYSFS,), {}), (8192, 6000)),
}


@pytest.mark.parametrize("name", RECORDED)
def test_the_least_that_a_group_above_leaves_is_what_is_available(
    name: str, tmp_path: Path
) -> None:
    tree, (total, available) = RECORDED[name]
    found = tree.write(tmp_path).machine()
    assert (found.total_bytes, found.available_bytes) == (total * MIB, available * MIB)


def test_a_small_container_keeps_little_free_and_a_full_machine_still_bounds_it(
    tmp_path: Path,
) -> None:
    tree = Tree("0::/\n", (SYSFS, TWO), {HERE: V2(700, 60, cache=0)})
    found = tree.write(tmp_path / "roomy").machine()
    on_machine = 6000 * MIB - 8192 * MIB // 10
    assert found == MachineMemory(700 * MIB, 640 * MIB, 70 * MIB, 700 * MIB, on_machine)
    probe = tree.write(tmp_path / "full")
    # 10 % of 8,192 MiB stay free on the machine: 81 MiB are left for this container.
    (tmp_path / "full/proc/meminfo").write_text(meminfo(available_mib=900))
    found = probe.machine()
    assert found.container_bytes is None
    assert found.headroom_bytes is not None
    assert (found.available_bytes - found.headroom_bytes) // MIB == 80


def test_files_that_cannot_be_read_limit_nothing(tmp_path: Path) -> None:
    probe = RECORDED["a systemd service whose slice has less left than itself"][0].write(tmp_path)
    (tmp_path / "sys/fs/cgroup/app.slice/memory.current").unlink()
    (tmp_path / "sys/fs/cgroup/app.slice/y26.service/memory.max").write_text("what?\n")
    assert (probe.machine().total_bytes, probe.machine().available_bytes) == (
        8192 * MIB,
        6000 * MIB,
    )


def test_an_old_kernels_free_memory_and_page_cache_count_as_available(tmp_path: Path) -> None:
    _write(tmp_path / "proc/meminfo", meminfo(available_mib=None))
    assert SystemMemoryProbe(tmp_path).machine().available_bytes == 4000 * MIB


def test_a_container_at_its_own_limit_is_under_pressure_though_the_machine_is_not(
    tmp_path: Path,
) -> None:
    probe = RECORDED["docker with cgroup v2, its own namespace"][0].write(tmp_path)
    assert probe.stall() == Stall()
    _write(tmp_path / "proc/pressure/memory", "some avg10=1.00\nfull avg10=0.00\n")
    _write(tmp_path / "sys/fs/cgroup/memory.pressure", "some avg10=20.00\nfull avg10=5.00\n")
    assert probe.stall() == Stall(0.2, 0.05)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("docker with cgroup v2, its own namespace", "sys/fs/cgroup/memory.events"),
        ("nested containers: the path leads out of the namespace", "sys/fs/cgroup/memory.events"),
        (
            "kubernetes: the pod's other container takes the pod's memory",
            "sys/fs/cgroup/kubepods.slice/pod1.slice/cri-1.scope/memory.events",
        ),
        ("docker with cgroup v1", "sys/fs/cgroup/memory/memory.oom_control"),
        (
            "hybrid: memory by v1, v2 only for systemd",
            "sys/fs/cgroup/memory/user.slice/memory.oom_control",
        ),
    ],
)
def test_the_kernels_kills_are_counted_in_the_innermost_group(
    name: str, file: str, tmp_path: Path
) -> None:
    RECORDED[name][0].write(tmp_path)
    assert oom_kills(tmp_path) == 0
    _write(tmp_path / file, "under_oom 0\noom_kill 2\n")
    assert oom_kills(tmp_path) == 2


def test_a_real_group_with_a_limit_is_seen_from_inside() -> None:
    limit = next((f for group in groups() for f in _limit_files(group.folder) if f.is_file()), None)
    if limit is None:
        pytest.skip("no control group of this process accounts for memory")
    group = limit.parent / "y26hkx-test"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"this user may not make a control group here: {error}")
    try:
        try:
            (group / limit.name).write_text(str(512 * MIB))
        except OSError as error:
            pytest.skip(f"this control group gives its children no limits: {error}")
        program = (
            "import os; from pathlib import Path\n"
            f"Path({str(group)!r}, 'cgroup.procs').write_text(str(os.getpid()))\n"
            "from worker_runtime.memory.probe import SystemMemoryProbe\n"
            "before = SystemMemoryProbe().machine()\n"
            "held = b'x' * (64 << 20)\n"
            "after = SystemMemoryProbe().machine()\n"
            "print(before.total_bytes, before.available_bytes, after.available_bytes)\n"
        )
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )
    finally:
        group.rmdir()
    total, before, after = map(int, ran.stdout.split())
    assert total == 512 * MIB
    assert before < 512 * MIB
    assert 60 * MIB <= before - after <= 80 * MIB


def _limit_files(folder: Path) -> tuple[Path, ...]:
    return (folder / "memory.max", folder / "memory.limit_in_bytes")


def test_this_machines_groups_are_read_without_a_fault() -> None:
    assert all(a.limit_bytes > 0 and a.left_bytes >= 0 for a in allowances())
