"""What is read of the machine, and what the profile makes of it."""

import os
import sys
from pathlib import Path

import pytest

from chat_worker.settings import ChatSettings
from cli.settings import StackSettings
from common.sizes import GIB
from embed_worker.settings import EmbedSettings
from worker_runtime.machine import Machine, cores, from_meminfo, read_machine, windows
from worker_runtime.machine.profile import choose, size_of
from worker_runtime.memory.probe import SystemMemoryProbe


def chosen(machine: Machine, **given: str) -> dict[str, str]:
    return {choice.name: choice.value for choice in choose(machine, given)}


def of_gib(total: float, **facts: object) -> Machine:
    return Machine(int(total * GIB), int(total * GIB), 0, **facts)  # type: ignore[arg-type]


def test_meminfo_is_read_in_kib() -> None:
    text = "MemTotal:  2048 kB\nMemAvailable: 1024 kB\nSwapTotal: 0 kB\nHugePages_Total: 0\n"
    assert from_meminfo(text) == (2 * 2**20, 2**20, 0)


def test_this_machine_tells_its_memory_and_cores() -> None:
    machine = read_machine()
    assert machine.memory_bytes
    assert machine.memory_bytes <= (machine.total_bytes or 0)
    assert 1 <= machine.physical_cores <= machine.cores <= (os.cpu_count() or 1)


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
@pytest.mark.parametrize(
    ("own", "mount", "files"),
    [
        (
            "5:cpuacct,cpu:/a/b\n0::/\n",
            "cgroup cgroup rw,cpu,cpuacct",
            {"cpu.cfs_quota_us": "{}\n", "cpu.cfs_period_us": "100000\n"},
        ),
        ("0::/a/b\n", "cgroup2 cgroup rw", {"cpu.max": "{} 100000\n"}),
    ],
    ids=["v1", "v2"],
)
def test_the_least_time_that_a_group_above_gives_counts(
    tmp_path: Path, own: str, mount: str, files: dict[str, str]
) -> None:
    process, group = tmp_path / "proc/self", tmp_path / "sys/fs/cgroup"
    process.mkdir(parents=True)
    (process / "cgroup").write_text(own)
    (process / "mountinfo").write_text(f"30 23 0:26 / /sys/fs/cgroup rw - {mount}\n")
    (group / "a/b").mkdir(parents=True)
    assert cores.quota(tmp_path) is None
    for folder, quota in (("a", "150000"), ("a/b", "250000")):
        for name, text in files.items():
            (group / folder / name).write_text(text.format(quota))
    assert cores.quota(tmp_path) == 1.5


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_the_start_and_the_workers_see_the_same_memory() -> None:
    machine, probed = read_machine(), SystemMemoryProbe().machine()
    assert machine.memory_bytes == probed.total_bytes
    assert machine.available_bytes == pytest.approx(probed.available_bytes, rel=0.2)


def test_two_threads_of_one_core_count_once(tmp_path: Path) -> None:
    for core, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        folder = tmp_path / f"cpu{core}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings)
    assert cores.physical([0, 1, 2, 3], tmp_path) == 2
    assert cores.physical([0, 2], tmp_path) == 1
    assert cores.physical([7, 8], tmp_path) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="the files are Linux's")
def test_of_two_kinds_of_cores_the_fast_ones_compute(tmp_path: Path) -> None:
    """As Linux shows an Intel Core of 6 cores with two threads and 8 that save power."""
    assert cores.fastest(range(20), tmp_path) == list(range(20))
    for kind, numbers in (("cpu_core", "0-3,5-11"), ("cpu_atom", "4,12-19")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "cpus").write_text(f"{numbers}\n")
    assert cores.fastest(range(20), tmp_path) == [0, 1, 2, 3, *range(5, 12)]
    assert cores.fastest([2, 13, 14], tmp_path) == [2]
    # A process that may use the others only.
    assert cores.fastest([13, 14], tmp_path) == [13, 14]


@pytest.mark.skipif(sys.platform != "linux", reason="the files are Linux's")
def test_arms_cores_are_told_apart_by_their_capacity(tmp_path: Path) -> None:
    for core, capacity in enumerate([250, 250, 870, 870, 1024]):
        folder = tmp_path / f"system/cpu/cpu{core}"
        folder.mkdir(parents=True)
        (folder / "cpu_capacity").write_text(f"{capacity}\n")
    assert cores.fastest(range(5), tmp_path) == [2, 3, 4]
    assert cores.fastest([0, 1], tmp_path) == [0, 1]


def test_windows_names_the_fast_cores_by_their_efficiency_class() -> None:
    def core(efficiency: int, mask: int, group: int = 0) -> bytes:
        head = windows.CORE.pack(windows.PROCESSOR_CORE, 48, 0, efficiency, 1, mask, group)
        return head.ljust(48, b"\0")

    report = core(1, 0b0011) + core(1, 0b1100) + core(0, 0b10000) + core(0, 0b100000)
    assert windows.fast_cores_of(report) == {0, 1, 2, 3}
    assert windows.fast_cores_of(core(0, 0b1) + core(0, 0b1, group=1)) == {0, 64}
    assert windows.fast_cores_of(b"") == set()
    # A report that is cut off, or has no sizes, ends.
    assert windows.fast_cores_of(core(1, 0b1)[:20]) == set()
    assert windows.fast_cores_of(core(1, 0b1).replace(b"\x30\0\0\0", bytes(4), 1)) == {0}


def test_small_and_large_machines_differ_from_the_plain_defaults() -> None:
    medium = {
        "LLAMA_CTX": "2560",
        "MAX_CONCURRENT_REQUESTS": "4",
        "LLAMA_UBATCH": "512",
        "MAX_BATCH_SIZE": "32",
        "LLAMA_THREADS": "0",
        "TORCH_NUM_THREADS": "0",
        "MODEL_QUANTIZATION": "none",
        "MODEL_IDLE_TIMEOUT": "3600",
    }
    small = {
        "LLAMA_CTX": "1536",
        "MAX_CONCURRENT_REQUESTS": "2",
        "LLAMA_UBATCH": "256",
        "MAX_BATCH_SIZE": "16",
        "MODEL_IDLE_TIMEOUT": "1800",
    }
    assert chosen(of_gib(7.7)) == medium | small
    assert chosen(of_gib(15.6)) == medium
    large = {"LLAMA_CTX": "4608", "MODEL_IDLE_TIMEOUT": "7200"}
    assert chosen(of_gib(24)) == medium | large


@pytest.mark.parametrize("size", ["small", "medium", "large"])
def test_every_choice_has_a_reason_and_yields_to_what_is_set(size: str) -> None:
    choices = choose(of_gib(8), {"PROFILE": size})
    assert all(choice.reason and choice.source == "profile" for choice in choices)
    given = {choice.name: f"{choice.value}7" for choice in choices} | {"PROFILE": size}
    again = choose(of_gib(8), given)
    assert {choice.name: choice.value for choice in again} | {"PROFILE": size} == given
    assert {choice.source for choice in again} == {"environment"}


def test_the_plain_defaults_are_those_of_a_medium_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(profile: str) -> list[dict[str, object]]:
        monkeypatch.setenv("PROFILE", profile)
        chat, embed = ChatSettings(_env_file=None), EmbedSettings(_env_file=None)
        chosen = {"profile", "context_tokens"}
        return [settings.model_dump(exclude=chosen) for settings in (chat, embed)] + [
            {"request_tokens": chat.request_tokens}
        ]

    assert of("medium") == of("off")


def test_a_containers_limit_counts_as_the_machines_memory() -> None:
    assert size_of(of_gib(64, limit_bytes=4 * GIB), {}) == "small"


def test_what_is_set_wins_and_is_shown_as_set() -> None:
    by_name = {choice.name: choice for choice in choose(of_gib(4), {"LLAMA_CTX": "8192"})}
    assert (by_name["LLAMA_CTX"].value, by_name["LLAMA_CTX"].source) == ("8192", "environment")
    assert "1536" in by_name["LLAMA_CTX"].reason
    assert "LLAMA_CTX" not in chosen(of_gib(4), MAX_INPUT_TOKENS="3000")


@pytest.mark.parametrize("given", [{"PROFILE": "off"}, {"AUTO_MEMORY_MANAGEMENT": "0"}])
def test_the_profile_can_be_turned_off(given: dict[str, str]) -> None:
    assert choose(of_gib(4), StackSettings.read(given).values) == []


def test_the_profile_can_be_named() -> None:
    assert size_of(of_gib(4), {"PROFILE": "Large"}) == "large"
    assert size_of(Machine(), {}) is None
    assert size_of(Machine(), {"PROFILE": "small"}) == "small"


def test_weights_are_quantized_only_where_that_can_be_done() -> None:
    by_name = {choice.name: choice for choice in choose(of_gib(4), {})}
    assert by_name["MODEL_QUANTIZATION"].value == "none"
    assert "4bit is wanted" in by_name["MODEL_QUANTIZATION"].reason
    assert chosen(of_gib(4, quantizes=True))["MODEL_QUANTIZATION"] == "4bit"
    busy = Machine(16 * GIB, 6 * GIB, 0, quantizes=True)
    assert chosen(busy)["MODEL_QUANTIZATION"] == "8bit"
    assert chosen(of_gib(16, quantizes=True))["MODEL_QUANTIZATION"] == "none"


def test_threads_follow_a_containers_share_of_the_cores() -> None:
    few = of_gib(16, cores=16, physical_cores=8, quota_cores=2.5)
    assert (chosen(few)["LLAMA_THREADS"], chosen(few)["TORCH_NUM_THREADS"]) == ("2", "2")
    enough = of_gib(16, cores=4, physical_cores=2, quota_cores=2.0)
    assert chosen(enough)["LLAMA_THREADS"] == "0"


def test_a_worker_alone_has_the_same_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROFILE", "small")
    assert ChatSettings().context_tokens == 1536
    assert EmbedSettings().idle_timeout_s == 1800
    assert ChatSettings(context_tokens=900).context_tokens == 900
    monkeypatch.setenv("MODEL_IDLE_TIMEOUT", "60")
    assert ChatSettings().idle_timeout_s == 60
    monkeypatch.setenv("AUTO_MEMORY_MANAGEMENT", "0")
    assert ChatSettings().context_tokens == 0
