"""Which model a request means."""

import pytest

from common.errors import BackendLoadFailed, ModelNotFound
from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fakes import FakeClock
from worker_runtime.catalog import Catalog, ModelEntry, Scan, fingerprint

TTL_S = 300


class Disk:
    def __init__(self, *entries: ModelEntry, default_id: str = "") -> None:
        self.scan = Scan(list(entries), default_id)
        self.n_looks = 0

    def __call__(self) -> Scan:
        self.n_looks += 1
        return self.scan


def catalog_of(disk: Disk) -> tuple[Catalog, FakeClock]:
    clock = FakeClock()
    return Catalog(disk, ttl_s=TTL_S, clock=clock), clock


def test_ids_are_found_in_any_case_and_exactly_first() -> None:
    catalog, _ = catalog_of(Disk(entry("Qwen"), entry("qwen"), entry("Other")))
    assert catalog.resolve("qwen").id == "qwen"
    assert catalog.resolve("QWEN").id == "Qwen"
    assert catalog.resolve("other").id == "Other"


def test_no_name_means_the_default_model() -> None:
    catalog, _ = catalog_of(Disk(entry("a"), entry("b"), default_id="b"))
    assert catalog.resolve("").id == "b"


def test_an_unknown_model_names_the_known_ones_and_echoes_little() -> None:
    catalog, _ = catalog_of(Disk(entry("a"), entry("bad", broken="no")))
    with pytest.raises(ModelNotFound) as caught:
        catalog.resolve("x" * 10_000)
    assert caught.value.suggestions == ("a",)
    assert len(str(caught.value)) < 200
    assert caught.value.param == "model"


@pytest.mark.parametrize("name", ["../a", "a/../a", "/etc/passwd", "a\0", "C:\\a", "\ud800"])
def test_a_name_is_only_a_key(name: str) -> None:
    catalog, _ = catalog_of(Disk(entry("a")))
    with pytest.raises(ModelNotFound):
        catalog.resolve(name)


def test_a_broken_model_is_listed_and_refused_with_its_reason() -> None:
    catalog, _ = catalog_of(Disk(entry("bad", broken="its header is truncated")))
    assert [e.id for e in catalog.entries()] == ["bad"]
    with pytest.raises(BackendLoadFailed, match="its header is truncated"):
        catalog.resolve("bad")


def test_without_models_it_says_what_to_do() -> None:
    catalog, _ = catalog_of(Disk())
    with pytest.raises(ModelNotFound, match="no model here yet") as caught:
        catalog.resolve("")
    assert "models folder" in caught.value.suggestions[0]


def test_the_disk_is_looked_at_again_after_the_ttl_or_on_request() -> None:
    disk = Disk(entry("a"))
    catalog, clock = catalog_of(disk)
    catalog.resolve("a")
    disk.scan = Scan([entry("b")])
    clock.now_s += TTL_S - 1
    catalog.resolve("a")
    assert disk.n_looks == 1
    clock.now_s += 1
    catalog.resolve("b")
    assert disk.n_looks == 2
    catalog.rescan()
    assert disk.n_looks == 3


def test_of_two_models_with_one_id_the_first_counts() -> None:
    first, second = entry("a", fingerprint="fp_1"), entry("a", fingerprint="fp_2")
    catalog, _ = catalog_of(Disk(first, second))
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
