"""What workers of one machine know of each other's bookings, between real processes."""

import os
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
    ledger.write((LedgerEntry("other", 7, 1),), 5)
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
        assert (page.entries, page.wanted_bytes) == ((LedgerEntry("other", 7, 1),), 5)
        other.kill()
        other.wait()
        assert pages(ledger) == ()


def test_a_page_whose_process_id_went_to_another_process_does_not_count(tmp_path: Path) -> None:
    first = FolderLedger(tmp_path)
    with first.open():
        first.write((LedgerEntry("a", 7),), 0)
    own = tmp_path / f"{os.getpid()}.json"
    own.rename(tmp_path / "1.json")
    assert len(pages(first)) == 1
    (tmp_path / "1.json").write_text(f'{{"pid":{os.getpid()},"started_s":1.0}}')
    assert pages(first) == ()


def test_a_page_that_cannot_be_read_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_bytes(b"\xff{")
    assert pages(FolderLedger(tmp_path)) == ()
    assert not (tmp_path / "1.json").exists()


def test_a_page_that_cannot_be_written_fails_nobody_and_is_written_later(tmp_path: Path) -> None:
    ledger = FolderLedger(tmp_path)
    in_the_way = tmp_path / f"{os.getpid()}.new"
    in_the_way.mkdir()
    with ledger.open():
        ledger.write((LedgerEntry("a", 7),), 0)
    in_the_way.rmdir()
    with ledger.open():
        ledger.write((LedgerEntry("a", 7),), 0)
    assert (tmp_path / f"{os.getpid()}.json").exists()
