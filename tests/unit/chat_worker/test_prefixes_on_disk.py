"""Prefixes on disk: what goes there and comes back, and files that are damaged or of others."""

from pathlib import Path

import pytest

from chat_worker.engine.disk_prefix_cache import SUFFIX, DiskPrefixCache
from tests.unit.chat_worker.conversations import MIB, OWN_CELLS, ask, check, conversation, n_bytes
from tests.unit.chat_worker.fake_runner import STATE_BYTES
from tests.unit.chat_worker.scheduling import Driver


def on_disk(folder: Path, **changed: object) -> DiskPrefixCache:
    plain: dict[str, object] = {"identity": "model", "max_bytes": MIB, "whole": False}
    return DiskPrefixCache(folder, **(plain | changed))  # type: ignore[arg-type]


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*/*{SUFFIX}"))


def stored(folder: Path, *numbers: int) -> None:
    """Leave conversations on disk as an engine that ends does."""
    driver = Driver(OWN_CELLS, disk=on_disk(folder))
    for number in numbers:
        ask(driver, conversation(number))
        driver.offload.put_away(lambda: True)


def test_what_does_not_fit_into_memory_goes_to_disk_and_comes_back(tmp_path: Path) -> None:
    disk = on_disk(tmp_path)
    driver = Driver(OWN_CELLS, max_bytes=STATE_BYTES * 300, disk=disk)
    for number in range(12):
        ask(driver, conversation(number))
        disk.finish(lambda: True)
    for number in range(12):
        assert (ask(driver, [*conversation(number), 3, 3]).n_cached or 0) >= 120
        check(driver.prefixes, STATE_BYTES * 300)
        disk.finish(lambda: True)


def test_without_memory_prefixes_go_to_disk_only(tmp_path: Path) -> None:
    disk = on_disk(tmp_path)
    driver = Driver(OWN_CELLS, disk=disk)
    for number in range(8):
        ask(driver, conversation(number))
        disk.finish(lambda: True)
    assert n_bytes(driver.prefixes) == 0
    assert ask(driver, conversation(0)).n_cached == 119


def test_a_damaged_file_is_deleted_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path, 0, 1)
    damaged, cut = files(tmp_path)
    for path, whole in ((damaged, True), (cut, False)):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content if whole else content[:-5])
    driver = Driver(OWN_CELLS, disk=on_disk(tmp_path))
    for number in (0, 1):
        assert ask(driver, conversation(number)).n_cached == 0
    assert not files(tmp_path)
    said = capsys.readouterr().err
    assert said.count("is damaged or of another version") == 2


def test_a_file_of_somebody_else_is_left_alone_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path, 0)
    (own,) = files(tmp_path)
    foreign = own.with_name(f"holiday\n{SUFFIX}") if own.drive == "" else own.with_name("a.kv")
    foreign.write_bytes(b"not ours")
    driver = Driver(OWN_CELLS, disk=on_disk(tmp_path, max_bytes=1))
    ask(driver, conversation(1))
    driver.offload.put_away(lambda: True)
    assert foreign.read_bytes() == b"not ours"
    (said,) = capsys.readouterr().err.splitlines()
    assert "not one of its files" in said


def test_a_file_under_the_name_of_another_is_not_used(tmp_path: Path) -> None:
    stored(tmp_path, 0, 1)
    disk = on_disk(tmp_path)
    first, second = files(tmp_path)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    driver = Driver(OWN_CELLS, disk=disk)
    for number in (0, 1):
        assert ask(driver, conversation(number)).n_cached == 0


def test_files_of_another_model_or_setting_are_not_seen(tmp_path: Path) -> None:
    stored(tmp_path, 0)
    assert on_disk(tmp_path, identity="other").longest(conversation(0), "")[1] == 0


def test_the_folder_is_bounded_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    most = 3 * STATE_BYTES * 124 + 3_000
    disk = on_disk(folder, max_bytes=most)
    driver = Driver(OWN_CELLS, disk=disk)
    for number in range(12):
        ask(driver, conversation(number))
        driver.offload.put_away(lambda: True)
        assert sum(path.stat().st_size for path in files(folder)) <= most
    assert len(files(folder)) > 1
    if not folder.drive:
        modes = [
            path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir(), *files(folder))
        ]
        assert set(modes) == {0o700, 0o600}


def test_what_there_is_no_time_for_is_lost_and_what_was_used_last_is_written(
    tmp_path: Path,
) -> None:
    driver = Driver(OWN_CELLS, max_bytes=MIB, disk=on_disk(tmp_path))
    for number in range(8):
        ask(driver, conversation(number))
    turns = iter([True] * 7 + [False] * 20)
    assert not driver.offload.put_away(lambda: next(turns))
    again = Driver(OWN_CELLS, disk=on_disk(tmp_path))
    found = [bool(ask(again, conversation(number)).n_cached) for number in range(8)]
    assert found == [number > 0 for number in range(8)]


def test_caches_are_freed_once_all_is_on_disk_and_not_while_something_else_is_to_do(
    tmp_path: Path,
) -> None:
    driver = Driver(OWN_CELLS, max_bytes=MIB, disk=on_disk(tmp_path))
    for number in range(8):
        ask(driver, conversation(number))
    turns = iter([True] * 3 + [False] * 20)
    assert not driver.offload.shed(lambda: next(turns))
    assert len(driver.prefixes.held) == 4
    assert driver.runner.n_sheds == 0
    assert driver.offload.shed(lambda: True)
    assert (driver.prefixes.held, driver.runner.n_sheds) == ([], 1)
    for number in range(8):
        assert ask(driver, [*conversation(number), 3]).n_cached == 120


def test_a_turn_that_a_slot_holds_is_not_replaced_by_the_one_before_it(tmp_path: Path) -> None:
    driver = Driver(OWN_CELLS, max_bytes=MIB, disk=on_disk(tmp_path))
    # The client sends another answer than the one that was computed.
    turn = [*conversation(0), 60, 61, 62]
    for number in range(6):
        ask(driver, conversation(number))
    assert (ask(driver, turn).n_cached or 0) >= 120
    driver.offload.put_away(lambda: True)
    again = Driver(OWN_CELLS, disk=on_disk(tmp_path))
    assert ask(again, turn).n_cached == len(turn) - 1


def test_salts_are_not_in_the_files(tmp_path: Path) -> None:
    driver = Driver(OWN_CELLS, disk=on_disk(tmp_path))
    ask(driver, conversation(0), "key of a person")
    driver.offload.put_away(lambda: True)
    (file,) = files(tmp_path)
    assert b"key of a person" not in file.read_bytes()
    assert ask(Driver(OWN_CELLS, disk=on_disk(tmp_path)), conversation(0)).n_cached == 0
