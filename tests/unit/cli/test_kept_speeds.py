"""The file of what `y26hkx bench` measured."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cli.commands import kept_speeds
from cli.commands.failure import CommandError
from cli.commands.kept_speeds import Speed, keep, kept


def speed(at_s: float) -> Speed:
    return Speed("y26hkx", "1", "m", at_s, 10.5, 2.5)


def test_the_oldest_runs_go_when_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_speeds, "MOST_RUNS", 3)
    file = tmp_path / "own" / "bench.jsonl"
    for at_s in range(5):
        keep(file, speed(at_s))
    assert kept(file) == [speed(at_s) for at_s in (2, 3, 4)]
    assert len(file.read_bytes().splitlines()) == 3


def test_a_file_that_grew_too_large_before_is_cut(tmp_path: Path) -> None:
    file = tmp_path / "bench.jsonl"
    file.write_bytes(b"{}\n" * 5000)
    keep(file, speed(1))
    assert len(file.read_bytes().splitlines()) == kept_speeds.MOST_RUNS
    assert kept(file) == [speed(1)]


def test_what_another_version_wrote_stays(tmp_path: Path) -> None:
    file = tmp_path / "bench.jsonl"
    file.write_bytes(b'{"server":"y26hkx","new":1}\n\xff\xfe\n')
    keep(file, speed(1))
    assert kept(file) == [speed(1)]
    assert len(file.read_bytes().splitlines()) == 3


def test_runs_that_end_at_once_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "bench.jsonl"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda at_s: keep(file, speed(at_s)), range(16)))
    assert sorted(one.at_s for one in kept(file)) == [float(n) for n in range(16)]


def test_a_folder_that_takes_no_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "own").write_bytes(b"")
    with pytest.raises(CommandError, match="cannot be written"):
        keep(tmp_path / "own" / "bench.jsonl", speed(1))
