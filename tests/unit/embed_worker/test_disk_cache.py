"""The cache of vectors on disk: real files, several of them at once, and files that are hurt."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embed_worker.disk_cache import DiskCache, TwoTierCache
from embed_worker.engine.cache import Key, VectorCache
from embed_worker.vector_file import NAME, REST_S, StoredVector, VectorFile
from tests.running_stack import ROOT

MIB = 2**20
VECTOR = bytes(range(8))
OTHER = bytes(range(8, 16))
A: Key = (0, b"a")
B: Key = (0, b"b")

Opened = Callable[..., DiskCache]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Makes caches on one file, and closes those that a test has left open."""
    with contextlib.ExitStack() as stack:

        def make(identity: str = "fp_1", **chosen: object) -> DiskCache:
            fields = {"vector_bytes": 8, "max_bytes": MIB, "ttl_s": 100.0} | chosen
            cache = DiskCache(tmp_path / "vectors", identity, **fields)  # type: ignore[arg-type]
            stack.callback(cache.close)
            return cache

        yield make


def vectors(cache: DiskCache, *keys: Key) -> dict[Key, bytes]:
    return {key: vector for key, (vector, _) in cache.find(keys).items()}


def test_vectors_outlast_the_cache_that_stored_them(opened: Opened) -> None:
    first = opened()
    first.put(A, VECTOR)
    first.put(B, OTHER)
    first.close()
    assert vectors(opened(), A, B, (0, b"c")) == {A: VECTOR, B: OTHER}


def test_another_model_finds_nothing(opened: Opened) -> None:
    first = opened()
    first.put(A, VECTOR)
    first.close()
    assert vectors(opened("fp_2"), A) == {}


def test_a_prompt_makes_another_text(opened: Opened) -> None:
    first = opened()
    first.put((0, b"a"), VECTOR)
    first.close()
    assert vectors(opened(), (3, b"a")) == {}


def test_a_vector_comes_back_until_its_time_is_over(opened: Opened) -> None:
    now = [1_000.0]
    first = opened(clock=lambda: now[0])
    first.put(A, VECTOR)
    first.close()
    now[0] = 1_099.0
    assert opened(clock=lambda: now[0]).find([A]) == {A: (VECTOR, 99.0)}
    for later in (1_100.0, 999.0):
        now[0] = later
        assert vectors(opened(clock=lambda: now[0]), A) == {}


def test_two_processes_share_what_either_computes(opened: Opened, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from embed_worker.disk_cache import DiskCache\n"
        "c = DiskCache(Path(sys.argv[1]), 'fp_1', vector_bytes=8, max_bytes=2**20, ttl_s=100.0)\n"
        "[c.put((0, f'{i}'.encode()), bytes([i] * 8)) for i in range(int(sys.argv[2]), 200, 2)]\n"
        "c.close()\n"
    )
    arguments = [sys.executable, "-c", script, str(tmp_path / "vectors")]
    both = [subprocess.Popen([*arguments, start], cwd=ROOT) for start in ("0", "1")]
    assert [process.wait(60) for process in both] == [0, 0]
    keys: list[Key] = [(0, f"{i}".encode()) for i in range(200)]
    found = vectors(opened(), *keys)
    assert found == {(0, f"{i}".encode()): bytes([i] * 8) for i in range(200)}


def test_the_file_stays_within_its_bytes_and_the_least_recently_used_go(tmp_path: Path) -> None:
    file = VectorFile(tmp_path, MIB // 4)
    n_evicted = 0
    for round_ in range(40):
        rows = [
            StoredVector(f"{round_}/{i}".encode(), bytes(1_536), 0.0, float(round_))
            for i in range(16)
        ]
        n_evicted += file.write(rows, [b"0/0"], float(round_))
        assert (tmp_path / NAME).stat().st_size <= MIB // 4
    size = file.size()
    file.close()
    assert size.n_bytes <= MIB // 4
    assert n_evicted == 40 * 16 - size.n_entries > 0
    kept = VectorFile(tmp_path, MIB)
    assert [row.key for row in kept.read([b"0/0", b"0/1", b"39/15"])] == [b"0/0", b"39/15"]
    kept.close()


def test_long_vectors_all_at_once_stay_within_its_bytes_too(tmp_path: Path) -> None:
    file = VectorFile(tmp_path, MIB)
    rows = [StoredVector(b"%d" % i, bytes(16_384), 0.0, float(i)) for i in range(256)]
    assert file.write(rows, [], 0.0) > 0
    assert 0 < file.size().n_bytes <= MIB
    assert file.read([b"255", b"0"]) == rows[-1:]
    file.close()


def test_a_smaller_limit_shrinks_the_file(tmp_path: Path) -> None:
    rows = [StoredVector(b"%d" % i, bytes(1_536), 0.0, float(i)) for i in range(600)]
    large = VectorFile(tmp_path, 2 * MIB)
    large.write(rows, [], 0.0)
    large.close()
    small = VectorFile(tmp_path, MIB // 4)
    small.write([], [], 0.0)
    small.forget(-1.0)
    small.close()
    assert (tmp_path / NAME).stat().st_size <= MIB // 4


@pytest.mark.parametrize("where", [0, 5_000])
def test_a_damaged_file_is_replaced_and_nobody_fails(
    opened: Opened, tmp_path: Path, where: int
) -> None:
    first = opened()
    for number in range(200):
        first.put((0, b"%d" % number), VECTOR)
    first.close()
    with (tmp_path / "vectors" / NAME).open("r+b") as file:
        file.seek(where)
        file.write(os.urandom(8_000))
    second = opened()
    second.find([(0, b"%d" % number) for number in range(200)])
    second.put(A, VECTOR)
    second.close()
    third = opened()
    third.put(B, OTHER)
    third.close()
    assert vectors(opened(), B) == {B: OTHER}


def test_a_vector_whose_bytes_changed_is_not_given_out(opened: Opened, tmp_path: Path) -> None:
    first = opened()
    first.put(A, VECTOR)
    first.put(B, OTHER)
    first.close()
    connection = sqlite3.connect(tmp_path / "vectors" / NAME)
    with contextlib.closing(connection), connection:
        connection.execute("UPDATE vectors SET vector = ? WHERE vector = ?", (bytes(8), VECTOR))
    assert vectors(opened(), A, B) == {B: OTHER}


def test_a_vector_of_another_length_is_not_given_out(opened: Opened) -> None:
    first = opened()
    first.put(A, VECTOR)
    first.close()
    assert vectors(opened(vector_bytes=4), A) == {}


def test_a_folder_that_cannot_be_made_costs_nothing_but_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    cache = DiskCache(tmp_path / "file", "fp_1", vector_bytes=8, max_bytes=MIB, ttl_s=100.0)
    cache.put(A, VECTOR)
    assert vectors(cache, A) == {}
    cache.close()
    assert "not used for a while" in caplog.text


def test_a_full_disk_costs_nothing_but_the_new_vectors(tmp_path: Path) -> None:
    now = [0.0]
    file = VectorFile(tmp_path, MIB, clock=lambda: now[0])
    file.write([StoredVector(b"old", VECTOR, 0.0, 0.0)], [], 0.0)
    pages = file.size().n_bytes // 4096
    _limit_pages(file, pages)
    rows = [StoredVector(b"%d" % i, bytes(1_536), 0.0, 0.0) for i in range(64)]
    assert file.write(rows, [], 0.0) == 0
    now[0] = REST_S
    assert [row.key for row in file.read([b"old", b"0"])] == [b"old"]
    file.close()


def _limit_pages(file: VectorFile, most: int) -> None:
    """What SQLite says when a file cannot grow is what it says of a full disk."""
    connection = file._open()  # noqa: SLF001 - the limit is of one connection: the file's own
    connection.execute(f"PRAGMA max_page_count = {most}")


def test_another_process_that_writes_holds_nobody_up_who_reads(
    opened: Opened, tmp_path: Path
) -> None:
    first = opened()
    first.put(A, VECTOR)
    first.close()
    other = sqlite3.connect(tmp_path / "vectors" / NAME, isolation_level=None)
    with contextlib.closing(other):
        other.execute("BEGIN EXCLUSIVE")
        assert vectors(opened(), A) == {A: VECTOR}
        other.execute("ROLLBACK")


def test_memory_comes_before_the_disk_and_takes_over_what_it_finds_there(opened: Opened) -> None:
    first = opened()
    first.put(A, VECTOR)
    first.close()
    tiers = TwoTierCache(VectorCache(1_000, ttl_s=100), opened())
    assert [tiers.find([A, B]) for _ in range(2)] == [{A: VECTOR}] * 2
    told = tiers.take_counts()
    assert (told["memory"].hits, told["memory"].misses) == (1, 3)
    assert (told["disk"].hits, told["disk"].misses) == (1, 2)


@pytest.mark.skipif(sys.platform == "win32", reason="there the user's folders are private anyway")
def test_only_the_owner_can_read_the_folder(opened: Opened, tmp_path: Path) -> None:
    opened().close()
    assert (tmp_path / "vectors").stat().st_mode & 0o077 == 0
