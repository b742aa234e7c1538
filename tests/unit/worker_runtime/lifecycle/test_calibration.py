"""What loads teach about memory: kept across workers, bounded, and never in the way."""

import threading
from pathlib import Path

import pytest

from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fakes import FakeClock, FakeLauncher, FakeProbe
from tests.unit.worker_runtime.stub_engine import StubSpec
from worker_runtime.catalog import Catalog, Scan
from worker_runtime.lifecycle.calibration import MAX_CORRECTIONS, Calibration
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.lifecycle.manager import Models
from worker_runtime.memory.need import Need
from worker_runtime.memory.probe import ProcessMemory
from worker_runtime.policy import LifecyclePolicy

GIB = 1 << 30
NEED = Need(weights=GIB)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "learnt" / "memory.json"


def correction(file: Path, option: LoadOption) -> int:
    """As a worker that starts now has it."""
    (corrected,) = Calibration(file).corrected(lambda _: [option])(option.entry)
    return corrected.need.correction


def test_what_a_model_took_more_is_booked_the_next_time_it_is_loaded_the_same_way(
    file: Path,
) -> None:
    option = LoadOption(entry(), NEED)
    Calibration(file).note(option, ProcessMemory(GIB + 300))
    assert correction(file, option) == 0, "within what an estimate promises"
    Calibration(file).note(option, ProcessMemory(GIB + GIB // 2))
    assert correction(file, option) == GIB // 2
    others = (
        LoadOption(entry(fingerprint="fp_1"), NEED),
        LoadOption(entry(spec=StubSpec(steps=2)), NEED),
        LoadOption(entry(), Need(weights=GIB, kv=1)),
    )
    for other in others:
        assert correction(file, other) == 0


def test_less_work_does_not_unteach_what_more_work_took(file: Path) -> None:
    option, learnt = LoadOption(entry(), NEED), Calibration(file)
    learnt.note(option, ProcessMemory(GIB * 3 // 2))
    learnt.note(option, ProcessMemory(GIB))
    assert correction(file, option) == GIB // 2


def test_what_comes_with_use_is_not_taken_for_an_error(file: Path) -> None:
    option = LoadOption(entry(), Need(weights=2 * GIB, kv=GIB, loading=GIB))
    # The cache is empty yet.
    Calibration(file).note(option, ProcessMemory(2 * GIB, 0, 4 * GIB))
    assert correction(file, option) == 0
    Calibration(file).note(option, ProcessMemory(GIB // 2, GIB))
    assert correction(file, option) == -GIB // 2


def test_a_corrected_need_teaches_as_the_computed_one(file: Path) -> None:
    option, learnt = LoadOption(entry(), NEED), Calibration(file)
    learnt.note(option, ProcessMemory(GIB * 3 // 2))
    (corrected,) = learnt.corrected(lambda _: [option])(option.entry)
    learnt.note(corrected, ProcessMemory(GIB * 7 // 4))
    assert correction(file, option) == GIB * 3 // 4


@pytest.mark.parametrize(("held", "believed"), [(9 * GIB, GIB), (1, -GIB // 2)])
def test_what_cannot_be_is_believed_within_bounds_only(
    file: Path, held: int, believed: int
) -> None:
    option = LoadOption(entry(), NEED)
    Calibration(file).note(option, ProcessMemory(held))
    assert correction(file, option) == believed


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a":"b"}', b"\xff\xfe", b"0" * 100_000])
def test_a_file_that_is_damaged_or_foreign_is_written_anew(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    option = LoadOption(entry(), NEED)
    assert correction(file, option) == 0
    Calibration(file).note(option, ProcessMemory(2 * GIB))
    assert correction(file, option) == GIB


def test_where_nothing_can_be_written_loads_go_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    learnt = Calibration(tmp_path / "file" / "memory.json")
    learnt.note(LoadOption(entry(), NEED), ProcessMemory(2 * GIB))


def test_workers_that_learn_at_once_lose_nothing_and_the_file_stays_small(file: Path) -> None:
    n_each = 20
    options = [LoadOption(entry(fingerprint=f"fp_{n}"), NEED) for n in range(4 * n_each)]

    def teach(part: int) -> None:
        learnt = Calibration(file)
        for option in options[part::4]:
            learnt.note(option, ProcessMemory(2 * GIB))

    threads = [threading.Thread(target=teach, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(correction(file, option) == GIB for option in options)
    file.write_text("{" + ",".join(f'"old{n}":1' for n in range(MAX_CORRECTIONS)) + "}")
    Calibration(file).note(options[0], ProcessMemory(2 * GIB))
    assert correction(file, options[0]) == GIB
    assert file.read_text().count(":") == MAX_CORRECTIONS


async def test_a_model_s_owner_tells_what_its_process_holds_after_load_and_before_its_end() -> None:
    told: list[tuple[str, ProcessMemory]] = []
    clock, probe = FakeClock(), FakeProbe()
    catalog = Catalog(lambda: Scan([entry()], "stub"), ttl_s=1e9, clock=clock)
    launcher = FakeLauncher(auto=True)
    async with Models(
        catalog,
        LifecyclePolicy(),
        launcher,
        clock,
        probe,
        on_measured=lambda option, held: told.append((option.entry.id, held)),
    ) as models:
        await models.load("")
        held = probe.process(launcher.latest.pid)
        assert told == [("stub", held)]
        await models.unload("")
        assert len(told) == 2
