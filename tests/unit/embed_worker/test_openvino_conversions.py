"""Conversions for OpenVINO: made once, kept, made anew when damaged, and refusals remembered."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from embed_worker.encoders.conversion_cache import CONVERSIONS
from embed_worker.encoders.conversion_files import GRAPH, RECORD, TOKENIZER, WEIGHTS, Record
from tests.unit.embed_worker.openvino_encoders import linked, on_openvino, variant
from worker_runtime.conversion.cache import Conversions, NotConvertible
from worker_runtime.conversion.lock import unfinished_prefix

UNCONVERTIBLE: dict[str, object] = {"pooling_mode": "weightedmean", "include_prompt": False}
CONVERTS_HERE = pytest.mark.usefixtures("converts_here")


def test_a_model_is_converted_once_and_anew_when_a_file_of_it_changes(tmp_path: Path) -> None:
    folder, cache = variant(tmp_path), tmp_path / "cache"
    on_openvino(folder, cache)
    (first,) = cache.glob("[!.]*")
    written_ns = (first / GRAPH).stat().st_mtime_ns
    on_openvino(folder, cache)
    assert (first / GRAPH).stat().st_mtime_ns == written_ns
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 64}))
    assert on_openvino(folder, cache).tokens.max_tokens == 64
    (second,) = cache.glob("[!.]*")
    assert second.name != first.name, "what is older is cleared away"


@CONVERTS_HERE
def test_a_model_that_cannot_be_converted_stays_on_torch_and_that_is_remembered(
    tmp_path: Path,
) -> None:
    folder, cache = variant(tmp_path, UNCONVERTIBLE), tmp_path / "cache"
    for _ in range(2):
        with pytest.raises(NotConvertible, match="weighted mean"):
            on_openvino(folder, cache)
    (kept,) = cache.glob("[!.]*")
    record = CONVERSIONS.read(kept)
    assert record is not None
    assert "weighted mean" in record.refusal
    assert os.listdir(kept) == [RECORD]


@pytest.mark.parametrize("name", [WEIGHTS, GRAPH, TOKENIZER])
def test_a_damaged_conversion_is_made_anew_and_the_log_says_so(
    built_in: Path,
    converted_dir: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    on_openvino(built_in, converted_dir)
    (whole,) = converted_dir.glob(f"{built_in.name}-*")
    kept = linked(whole, tmp_path / whole.name)
    assert CONVERSIONS.known(built_in, tmp_path) is not None
    (kept / name).unlink()
    with (whole / name).open("rb") as file:
        (kept / name).write_bytes(file.read(100))
    assert CONVERSIONS.known(built_in, tmp_path) is None

    def convert_again(_: object, model: Path, folder: Path, on_progress: object) -> None:
        shutil.rmtree(folder)
        linked(whole, folder)

    monkeypatch.setattr(Conversions, "_make", convert_again)
    assert on_openvino(built_in, tmp_path).runner.dimension == 384
    assert f"{name} is not as it was written" in caplog.text


def test_workers_that_share_a_folder_convert_a_model_once_and_clear_away_what_was_left(
    built_in: Path, converted_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_openvino(built_in, converted_dir)
    (whole,) = converted_dir.glob(f"{built_in.name}-*")
    folder = tmp_path / whole.name
    left = tmp_path / f"{unfinished_prefix(folder)}abc"
    others = tmp_path / ".new-of-another-abc"
    left.mkdir()
    others.mkdir()
    n_conversions = 0
    told = threading.Event()

    def convert(_: object, model: Path, folder: Path, on_progress: object) -> None:
        nonlocal n_conversions
        n_conversions += 1
        assert told.wait(30), "nobody waits"
        linked(whole, folder)

    def on_progress(fraction: float, stage: str) -> None:
        if "another worker" in stage:
            told.set()

    monkeypatch.setattr(Conversions, "_make", convert)
    with ThreadPoolExecutor(3) as workers:
        found = [
            workers.submit(CONVERSIONS.converted, built_in, tmp_path, on_progress) for _ in range(3)
        ]
        assert {future.result(60)[0] for future in found} == {folder}
    assert n_conversions == 1
    assert not left.exists()
    assert others.exists()


def test_a_converter_that_was_killed_is_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = variant(tmp_path), tmp_path / "cache"
    dying = "import os, signal; os.kill(os.getpid(), getattr(signal, 'SIGKILL', signal.SIGTERM))"
    started: list[object] = []
    popen = subprocess.Popen

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        started.append(command)
        return popen([sys.executable, "-c", dying], **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    for _ in range(2):
        with pytest.raises(NotConvertible, match="ended with code"):
            on_openvino(folder, cache)
    assert len(started) == 1
    record = CONVERSIONS.known(folder, cache)
    assert record is not None
    assert str(cache) in record.refusal, "it says what to delete"


@CONVERTS_HERE
def test_a_conversion_is_known_until_a_file_of_the_model_changes(tmp_path: Path) -> None:
    folder, cache = variant(tmp_path, UNCONVERTIBLE), tmp_path / "cache"
    assert CONVERSIONS.known(folder, cache) is None
    with pytest.raises(NotConvertible):
        on_openvino(folder, cache)
    assert CONVERSIONS.known(folder, cache) is not None
    os.utime(folder / "config.json", ns=(1, 1))
    assert CONVERSIONS.known(folder, cache) is None


@CONVERTS_HERE
def test_what_a_killed_converter_left_is_cleared_away(tmp_path: Path) -> None:
    folder, cache = variant(tmp_path, UNCONVERTIBLE), tmp_path / "cache"
    for name, age_s in (("old", 7200), ("running", 10)):
        (cache / f".new-{name}").mkdir(parents=True)
        os.utime(cache / f".new-{name}", (time.time() - age_s,) * 2)
    with pytest.raises(NotConvertible):
        on_openvino(folder, cache)
    assert {path.name for path in cache.glob(".new-*")} == {".new-running"}


def test_a_folder_that_cannot_be_written_to_leaves_the_model_on_torch(
    built_in: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotConvertible, match="cannot be written"):
        on_openvino(built_in, tmp_path / "file")


def test_a_damaged_record_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text('{"source": 3}')
    assert CONVERSIONS.read(tmp_path) is None
    (tmp_path / RECORD).write_text('{"source": "x"}')
    assert CONVERSIONS.read(tmp_path) == Record(source="x")
