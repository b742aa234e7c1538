"""What loads teach about memory: kept across workers, bounded, and never in the way."""

import threading
from pathlib import Path

import pytest

from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fakes import FakeClock, FakeLauncher, FakeProbe
from tests.unit.worker_runtime.stub_engine import StubSpec
from worker_runtime.catalog import Catalog, Scan
from worker_runtime.ladder import Rung
from worker_runtime.lifecycle import Models
from worker_runtime.memory.learnt import MAX_LESSONS, Learnt
from worker_runtime.memory.need import Need
from worker_runtime.memory.probe import ProcessMemory
from worker_runtime.policy import LifecyclePolicy

GIB = 1 << 30
NEED = Need(weights=GIB)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "learnt" / "memory.json"


def correction(file: Path, rung: Rung) -> int:
    """As a worker that starts now has it."""
    (corrected,) = Learnt(file).corrected(lambda _: [rung])(rung.entry)
    return corrected.need.correction


def test_what_a_model_took_more_is_booked_the_next_time_it_is_loaded_the_same_way(
    file: Path,
) -> None:
    rung = Rung(entry(), NEED)
    Learnt(file).note(rung, ProcessMemory(GIB + 300))
    assert correction(file, rung) == 0, "within what an estimate promises"
    Learnt(file).note(rung, ProcessMemory(GIB + GIB // 2))
    assert correction(file, rung) == GIB // 2
    others = (
        Rung(entry(fingerprint="fp_1"), NEED),
        Rung(entry(spec=StubSpec(steps=2)), NEED),
        Rung(entry(), Need(weights=GIB, kv=1)),
    )
    for other in others:
        assert correction(file, other) == 0


def test_less_work_does_not_unteach_what_more_work_took(file: Path) -> None:
    rung, learnt = Rung(entry(), NEED), Learnt(file)
    learnt.note(rung, ProcessMemory(GIB * 3 // 2))
    learnt.note(rung, ProcessMemory(GIB))
    assert correction(file, rung) == GIB // 2


def test_what_comes_with_use_is_not_taken_for_an_error(file: Path) -> None:
    rung = Rung(entry(), Need(weights=2 * GIB, kv=GIB, loading=GIB))
    # The cache is empty yet.
    Learnt(file).note(rung, ProcessMemory(2 * GIB, 0, 4 * GIB))
    assert correction(file, rung) == 0
    Learnt(file).note(rung, ProcessMemory(GIB // 2, GIB))
    assert correction(file, rung) == -GIB // 2


def test_a_corrected_need_teaches_as_the_computed_one(file: Path) -> None:
    rung, learnt = Rung(entry(), NEED), Learnt(file)
    learnt.note(rung, ProcessMemory(GIB * 3 // 2))
    (corrected,) = learnt.corrected(lambda _: [rung])(rung.entry)
    learnt.note(corrected, ProcessMemory(GIB * 7 // 4))
    assert correction(file, rung) == GIB * 3 // 4


@pytest.mark.parametrize(("held", "believed"), [(9 * GIB, GIB), (1, -GIB // 2)])
def test_what_cannot_be_is_believed_within_bounds_only(
    file: Path, held: int, believed: int
) -> None:
    rung = Rung(entry(), NEED)
    Learnt(file).note(rung, ProcessMemory(held))
    assert correction(file, rung) == believed


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a":"b"}', b"\xff\xfe", b"0" * 100_000])
def test_a_file_that_is_damaged_or_foreign_is_written_anew(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    rung = Rung(entry(), NEED)
    assert correction(file, rung) == 0
    Learnt(file).note(rung, ProcessMemory(2 * GIB))
    assert correction(file, rung) == GIB


def test_where_nothing_can_be_written_loads_go_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    learnt = Learnt(tmp_path / "file" / "memory.json")
    learnt.note(Rung(entry(), NEED), ProcessMemory(2 * GIB))


def test_workers_that_learn_at_once_lose_nothing_and_the_file_stays_small(file: Path) -> None:
    n_each = 20
    rungs = [Rung(entry(fingerprint=f"fp_{n}"), NEED) for n in range(4 * n_each)]

    def teach(part: int) -> None:
        learnt = Learnt(file)
        for rung in rungs[part::4]:
            learnt.note(rung, ProcessMemory(2 * GIB))

    threads = [threading.Thread(target=teach, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(correction(file, rung) == GIB for rung in rungs)
    file.write_text("{" + ",".join(f'"old{n}":1' for n in range(MAX_LESSONS)) + "}")
    Learnt(file).note(rungs[0], ProcessMemory(2 * GIB))
    assert correction(file, rungs[0]) == GIB
    assert file.read_text().count(":") == MAX_LESSONS


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
        on_measured=lambda rung, held: told.append((rung.entry.id, held)),
    ) as models:
        await models.load("")
        held = probe.process(launcher.latest.pid)
        assert told == [("stub", held)]
        await models.unload("")
        assert len(told) == 2
