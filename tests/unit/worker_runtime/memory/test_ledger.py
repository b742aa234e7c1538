"""What workers of one machine know of each other's bookings, between real processes."""

import subprocess
import sys
import textwrap
from pathlib import Path

from worker_runtime.memory.ledger import FolderLedger, LedgerEntry, LedgerPage

BOOKS_A_MODEL = """
import sys
from pathlib import Path
from worker_runtime.memory.ledger import LedgerEntry, FolderLedger

ledger = FolderLedger(Path(sys.argv[1]))
with ledger.open():
    ledger.write((LedgerEntry("other", 7, 1, 3),), 5, 4)
print("booked", flush=True)
sys.stdin.read()
"""


def pages(ledger: FolderLedger) -> tuple[LedgerPage, ...]:
    with ledger.open() as others:
        return others


def test_a_worker_sees_what_another_has_booked_until_that_dies(tmp_path: Path) -> None:
    ledger = FolderLedger(tmp_path / "ledger")
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BOOKS_A_MODEL), str(tmp_path / "ledger")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == b"booked"
        (page,) = pages(ledger)
        assert page == LedgerPage(ledger.place, (LedgerEntry("other", 7, 1, 3),), 5, 4)
        other.kill()
        other.wait()
        assert pages(ledger) == ()
        left = [path.suffix for path in (tmp_path / "ledger").iterdir()]
        assert sorted(left) == ["", ".alive"], "its own lock, and the one for all"


def test_a_page_of_another_container_counts_though_its_processes_are_not_seen_here(
    tmp_path: Path,
) -> None:
    here, elsewhere = FolderLedger(tmp_path), FolderLedger(tmp_path, place="pid:[1]")
    with elsewhere.open():
        # No process has this number.
        elsewhere.write((LedgerEntry("a", 7, 1 << 30),), 0, 0)
    (page,) = pages(here)
    assert page.place == "pid:[1]"
    assert page.place != here.place


def test_a_page_that_cannot_be_read_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_bytes(b"\xff{")
    assert pages(FolderLedger(tmp_path)) == ()
    assert not (tmp_path / "1.json").exists()


def test_a_page_that_cannot_be_written_fails_nobody_and_is_written_later(tmp_path: Path) -> None:
    ledger = FolderLedger(tmp_path)
    (alive,) = tmp_path.glob("*.alive")
    in_the_way = alive.with_suffix(".new")
    in_the_way.mkdir()
    with ledger.open():
        ledger.write((LedgerEntry("a", 7),), 0, 0)
    in_the_way.rmdir()
    with ledger.open():
        ledger.write((LedgerEntry("a", 7),), 0, 0)
    assert alive.with_suffix(".json").exists()
