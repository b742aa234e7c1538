"""Which model a request means, and when the disk is looked at."""

import asyncio
import contextlib
import unicodedata
from collections.abc import AsyncIterator, Callable
from typing import Literal, TypeVar

import pytest

from common.errors import BackendFailure, BackendLoadFailed, ModelNotFound, NotReady
from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fakes import FakeClock, settle
from worker_runtime.catalog import Catalog, ModelEntry, Scan, fingerprint

TTL_S = 300

T = TypeVar("T")


def catalog_of(*entries: ModelEntry, default_id: str = "") -> Catalog:
    scan = Scan(list(entries), default_id)
    catalog = Catalog(lambda: scan, ttl_s=TTL_S, clock=FakeClock())
    catalog.accept(scan)
    return catalog


class Disk:
    """Whose looks last until they are let go."""

    def __init__(self) -> None:
        self.scan: Scan | Exception = Scan([entry("a")])
        self.begun = asyncio.Semaphore(0)
        self.may_end = asyncio.Semaphore(0)
        self.n_looks = 0

    async def __call__(self, function: Callable[[], T]) -> T:
        self.n_looks += 1
        self.begun.release()
        await self.may_end.acquire()
        return function()

    def look(self) -> Scan:
        if isinstance(self.scan, Exception):
            raise self.scan
        return self.scan


def test_what_is_wrong_with_models_toml_is_logged_once_and_again_when_it_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    catalog = catalog_of(entry("a"))
    for problem in ("it is wrong", "it is wrong", "", "it is wrong"):
        catalog.accept(Scan([entry("a")], "a", problem))
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "it is wrong",
        "it is wrong",
    ]


@contextlib.asynccontextmanager
async def looking_at(disk: Disk) -> AsyncIterator[tuple[Catalog, FakeClock]]:
    clock = FakeClock()
    catalog = Catalog(disk.look, ttl_s=TTL_S, clock=clock, off_loop=disk)
    task = asyncio.create_task(catalog.keep_fresh())
    await disk.begun.acquire()
    try:
        yield catalog, clock
    finally:
        task.cancel()
        await asyncio.wait({task})


def test_ids_are_found_in_any_case_and_exactly_first() -> None:
    catalog = catalog_of(entry("Qwen"), entry("qwen"), entry("Other"))
    assert catalog.resolve("qwen").id == "qwen"
    assert catalog.resolve("QWEN").id == "Qwen"
    assert catalog.resolve("other").id == "Other"


def test_no_name_means_the_default_model() -> None:
    catalog = catalog_of(entry("a"), entry("b"), default_id="b")
    assert catalog.resolve("").id == "b"


def test_an_unknown_model_names_the_known_ones_and_echoes_little() -> None:
    catalog = catalog_of(entry("a"), entry("bad", broken="no"))
    with pytest.raises(ModelNotFound) as caught:
        catalog.resolve("x" * 10_000)
    assert caught.value.suggestions == ("a",)
    assert len(str(caught.value)) < 200
    assert caught.value.param == "model"


@pytest.mark.parametrize("name", ["../a", "a/../a", "/etc/passwd", "a\0", "C:\\a", "\ud800"])
def test_a_name_is_only_a_key(name: str) -> None:
    catalog = catalog_of(entry("a"))
    with pytest.raises(ModelNotFound):
        catalog.resolve(name)


def test_a_broken_model_is_listed_and_refused_with_its_reason() -> None:
    catalog = catalog_of(entry("bad", broken="its header is truncated"))
    assert [e.id for e in catalog.entries()] == ["bad"]
    with pytest.raises(BackendLoadFailed, match="its header is truncated"):
        catalog.resolve("bad")


def test_without_models_it_says_what_to_do() -> None:
    catalog = catalog_of()
    with pytest.raises(ModelNotFound, match="no model here yet") as caught:
        catalog.resolve("")
    assert "models folder" in caught.value.suggestions[0]


async def test_until_the_disk_has_been_looked_at_requests_are_told_to_come_again() -> None:
    disk = Disk()
    async with looking_at(disk) as (catalog, _):
        with pytest.raises(NotReady):
            catalog.resolve("a")
        disk.may_end.release()
        await catalog.first_scan()
        assert catalog.resolve("a").id == "a"


async def test_the_disk_is_looked_at_again_with_time_and_what_was_known_serves_meanwhile() -> None:
    disk = Disk()
    async with looking_at(disk) as (catalog, clock):
        disk.may_end.release()
        await catalog.first_scan()
        await settle()
        disk.scan = Scan([entry("b")])
        await clock.tick(TTL_S - 1)
        assert disk.n_looks == 1
        await clock.tick(1)
        assert disk.n_looks == 2
        assert catalog.resolve("a").id == "a"
        disk.may_end.release()
        await settle()
        assert catalog.resolve("b").id == "b"


async def test_whoever_asks_gets_a_look_that_began_after_that_and_shares_it() -> None:
    disk = Disk()
    async with looking_at(disk) as (catalog, _):
        asked = [asyncio.create_task(catalog.rescan()) for _ in range(5)]
        await settle()
        disk.scan = Scan([entry("late")])
        for _ in range(2):
            disk.may_end.release()
        found = await asyncio.gather(*asked)
        assert [[e.id for e in entries] for entries in found] == [["late"]] * 5
        assert disk.n_looks == 2


async def test_a_scan_that_ends_in_a_bug_leaves_what_was_known_and_the_next_is_tried() -> None:
    disk = Disk()
    async with looking_at(disk) as (catalog, _):
        for _ in range(3):
            disk.may_end.release()
        await catalog.first_scan()
        disk.scan = RuntimeError("a bug")
        with pytest.raises(BackendFailure):
            await catalog.rescan()
        assert catalog.resolve("a").id == "a"
        disk.scan = Scan([entry("b")])
        await catalog.rescan()
        assert catalog.resolve("b").id == "b"


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_an_id_is_found_in_every_normal_form(form: Literal["NFC", "NFD", "NFKC", "NFKD"]) -> None:
    name = "Modèle-東京-ガ-\N{FULLWIDTH LATIN CAPITAL LETTER A}"
    catalog = catalog_of(entry(name))
    assert catalog.resolve(unicodedata.normalize(form, name)).id == name
    assert catalog.resolve(unicodedata.normalize(form, name).upper()).id == name


def test_of_two_models_with_one_id_the_first_counts() -> None:
    first, second = entry("a", fingerprint="fp_1"), entry("a", fingerprint="fp_2")
    catalog = catalog_of(first, second)
    assert catalog.resolve("a") is first
    assert len(catalog.entries()) == 1


def test_a_fingerprint_changes_with_each_of_its_facts() -> None:
    path = entry().path
    prints = {
        fingerprint(path, 1, 1, "llama.cpp", "1"),
        fingerprint(path, 2, 1, "llama.cpp", "1"),
        fingerprint(path, 1, 2, "llama.cpp", "1"),
        fingerprint(path, 1, 1, "transformers", "1"),
        fingerprint(path, 1, 1, "llama.cpp", "2"),
    }
    assert len(prints) == 5
    assert all(len(one) == 19 and one.startswith("fp_") for one in prints)
