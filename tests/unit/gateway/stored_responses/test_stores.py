"""Both stores of responses keep, forget and hide alike."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import BackendFailure
from gateway.stored_responses.sqlite_store import AGE_S, FILE, SqliteStore
from gateway.stored_responses.store import MEMORY_AGE_S, MemoryStore, Record, ResponseStore

MAX_BYTES = 20_000


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def record(id: str, n_bytes: int = 10) -> Record:
    return Record(id, "", b"[]", b"x" * n_bytes)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[ResponseStore]:
    kept: ResponseStore
    if request.param == "memory":
        kept = MemoryStore(MAX_BYTES, clock)
    else:
        kept = SqliteStore(tmp_path / "kept", MAX_BYTES, clock)
    yield kept
    kept.close()


async def test_a_record_is_its_owners_alone(store: ResponseStore) -> None:
    await store.put("a", record("resp_1"))
    assert await store.get("a", "resp_1") == record("resp_1")
    assert await store.get("b", "resp_1") is None
    assert not await store.delete("b", "resp_1")
    assert await store.delete("a", "resp_1")
    assert not await store.delete("a", "resp_1")
    assert await store.get("a", "resp_1") is None


async def test_a_record_takes_the_place_of_the_one_before(store: ResponseStore) -> None:
    for n_bytes in (10, 20):
        await store.put("a", record("conv_1", n_bytes))
    assert await store.get("a", "conv_1") == record("conv_1", 20)


async def test_the_least_recently_used_of_whoever_has_most_goes_first(
    store: ResponseStore, clock: Clock
) -> None:
    await store.put("small", record("resp_0", 3000))
    for number in range(1, 5):
        clock.now_s += 1
        await store.put("large", record(f"resp_{number}", 3000))
    clock.now_s += 1
    assert await store.get("large", "resp_1")
    clock.now_s += 1
    await store.put("large", record("resp_5", 3000))
    kept = [await store.get("large", f"resp_{number}") is not None for number in range(1, 6)]
    assert kept == [True, False, True, True, True]
    assert await store.get("small", "resp_0")


async def test_what_is_larger_than_the_store_is_not_kept(store: ResponseStore) -> None:
    await store.put("a", record("resp_1", 2 * MAX_BYTES))
    assert await store.get("a", "resp_1") is None


async def test_what_nobody_used_for_long_is_forgotten(store: ResponseStore, clock: Clock) -> None:
    age_s = MEMORY_AGE_S if isinstance(store, MemoryStore) else AGE_S
    await store.put("a", record("resp_1"))
    await store.put("a", record("resp_2"))
    clock.now_s += age_s - 1
    assert await store.get("a", "resp_2")
    clock.now_s += 2
    assert await store.get("a", "resp_1") is None
    assert await store.get("a", "resp_2")


async def test_memory_is_counted_to_the_last_byte(clock: Clock) -> None:
    store = MemoryStore(MAX_BYTES, clock)
    for number in range(50):
        await store.put(f"owner{number % 3}", record(f"resp_{number % 20}", 100 * number))
    assert 0 < store.n_bytes <= MAX_BYTES
    for owner in range(3):
        for number in range(20):
            await store.delete(f"owner{owner}", f"resp_{number}")
    assert store.n_bytes == 0


async def test_a_file_outlives_its_process_and_is_shared(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path, MAX_BYTES)
    second = SqliteStore(tmp_path, MAX_BYTES)
    await first.put("a", record("resp_1"))
    assert await second.get("a", "resp_1")
    first.close()
    second.close()
    third = SqliteStore(tmp_path, MAX_BYTES)
    assert await third.get("a", "resp_1")
    third.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such bits")
async def test_the_folder_and_its_files_are_for_this_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    store = SqliteStore(folder, MAX_BYTES)
    await store.put("a", record("resp_1"))
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in folder.iterdir()} == {0o600}
    store.close()


async def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    store = SqliteStore(tmp_path, MAX_BYTES)
    await store.put("a", record("resp_1"))
    assert await store.get("a", "resp_1")
    store.close()
    assert (tmp_path / f"{FILE}.damaged").exists()


async def test_a_file_that_cannot_be_used_is_a_backend_failure(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, MAX_BYTES)
    store.close()
    with pytest.raises(BackendFailure):
        await store.put("a", record("resp_1"))
