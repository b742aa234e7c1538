"""OpenVINO beside torch: the same vectors, converted once, without torch afterwards."""

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import BertConfig

from embed_worker.discovery import built_in_folder
from embed_worker.encoders import openvino as openvino_encoder
from embed_worker.encoders import torch as torch_encoder
from embed_worker.encoders.conversion_cache import CONVERSIONS
from embed_worker.encoders.conversion_files import GRAPH, RECORD, TOKENIZER, WEIGHTS, Record
from embed_worker.encoders.loaded import LoadedEncoder
from embed_worker.engine.call import Row
from tests.unit.embed_worker.small_models import DIMENSION, SHAPE, make
from worker_runtime.conversion.cache import Conversions, NotConvertible
from worker_runtime.conversion.lock import unfinished_prefix

LEAST_COSINE = 0.9999
WORDS = ["the", "model", "記憶體", "reads", "café", "memory,", "12345", "what's", "next?", "模型"]
UNCONVERTIBLE: dict[str, object] = {"pooling_mode": "weightedmean", "include_prompt": False}
# Resident MiB of a process with all-MiniLM-L6-v2, after texts of every length.
MOST_MIB = 250
CONVERTS_HERE = pytest.mark.usefixtures("converts_here")
# Seconds of processor time, of all its threads, from the start of its process to the first vector.
MOST_START_S = 4.0
FRESH_PROCESS = """
import json, sys, time
from pathlib import Path
import psutil
from embed_worker.encoders import openvino
source, cache = map(Path, sys.argv[1:])
model = openvino.load(source, cache=cache, precision="auto", n_threads=0, on_progress=print)
model.runner.encode(model.tokens.rows(["a text"]).rows)
start_s = time.process_time()
for length in range(1, 250, 3):
    n_texts = min(32, model.batch_tokens // (length + 2))
    model.runner.encode(model.tokens.rows(["word " * length] * n_texts).rows)
heavy = sorted({"torch", "transformers", "sentence_transformers"} & set(sys.modules))
print(json.dumps([heavy, psutil.Process().memory_info().rss / 2**20, start_s]))
"""


def ignore_progress(fraction: float, stage: str) -> None:
    pass


def on_openvino(folder: Path, cache: Path, precision: str = "f32") -> LoadedEncoder:
    return openvino_encoder.load(
        folder, cache=cache, precision=precision, n_threads=0, on_progress=ignore_progress
    )


def on_torch(folder: Path) -> LoadedEncoder:
    return torch_encoder.load(folder, device="cpu", n_threads=0, on_progress=ignore_progress)


def encoded(model: LoadedEncoder, rows: list[Row]) -> NDArray[np.float32]:
    return np.frombuffer(model.runner.encode(rows), "<f4").reshape(len(rows), -1)


def mixed_rows(model: LoadedEncoder, count: int, prompt: str = "") -> list[Row]:
    chance = random.Random(5)
    texts = [" ".join(chance.choices(WORDS, k=chance.choice((1, 3, 9, 60)))) for _ in range(count)]
    return model.tokens.rows([*texts, "word " * 400], prompt=prompt).rows


def linked(folder: Path, copy: Path) -> Path:
    """A folder with the same files, none of which may be written to."""
    return Path(shutil.copytree(folder, copy, copy_function=os.link))


def least_cosine(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((found * expected).sum(axis=1) / norms).min())


def variant(
    tmp_path: Path, pooling: dict[str, object] | None = None, prompts: dict[str, str] | None = None
) -> Path:
    """A small BERT model with another configuration."""
    built_in = built_in_folder()
    assert built_in is not None
    folder = tmp_path / "variant"
    make(folder, built_in, BertConfig(**SHAPE))
    if pooling is not None:
        pooling = {"word_embedding_dimension": DIMENSION} | pooling
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if prompts is not None:
        config = {"__version__": {}, "prompts": prompts, "default_prompt_name": "query"}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def reference(built_in: Path) -> LoadedEncoder:
    return on_torch(built_in)


@pytest.mark.parametrize("precision", ["auto", "f32"])
def test_vectors_are_those_of_torch(
    built_in: Path, converted_dir: Path, reference: LoadedEncoder, precision: str
) -> None:
    model = on_openvino(built_in, converted_dir, precision)
    rows = mixed_rows(model, 30)
    assert rows == mixed_rows(reference, 30)
    assert least_cosine(encoded(model, rows), encoded(reference, rows)) >= LEAST_COSINE
    assert model.cosine >= LEAST_COSINE


# CPUs differ in how they sum up bfloat16: 0 was measured, and 1.5e-3 with weights of 8
# bits.
@pytest.mark.parametrize(("precision", "atol"), [("f32", 1e-5), ("auto", 2e-3), ("int8", 2e-3)])
def test_a_text_has_the_same_vector_alone_and_among_others(
    built_in: Path,
    converted_dir: Path,
    precision: str,
    atol: float,
    record_property: Callable[[str, object], None],
) -> None:
    model = on_openvino(built_in, converted_dir, precision)
    rows = mixed_rows(model, 20)
    alone = np.concatenate([encoded(model, [row]) for row in rows])
    together = [encoded(model, rows), encoded(model, rows[::-1])[::-1]]
    difference = float(np.abs(np.stack(together) - alone).max())
    record_property("largest difference", difference)
    assert difference <= atol


def test_eight_bit_weights_say_how_far_they_are_off(
    built_in: Path, converted_dir: Path, reference: LoadedEncoder
) -> None:
    model = on_openvino(built_in, converted_dir, "int8")
    rows = mixed_rows(model, 30)
    cosine = least_cosine(encoded(model, rows), encoded(reference, rows))
    assert "int8" in model.precision
    assert 0.99 < model.cosine < 1
    assert cosine == pytest.approx(model.cosine, abs=5e-3)


def test_a_cached_model_starts_fast_and_small_without_torch(
    built_in: Path, converted_dir: Path
) -> None:
    on_openvino(built_in, converted_dir, "auto")
    done = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, str(built_in), str(converted_dir)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    heavy, resident_mib, start_s = json.loads(done.stdout.splitlines()[-1])
    assert heavy == []
    assert resident_mib <= MOST_MIB
    assert start_s <= MOST_START_S


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
@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
        {"pooling_mode": ["max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"]},
    ],
)
def test_other_pooling_is_that_of_torch(tmp_path: Path, pooling: dict[str, object]) -> None:
    folder = variant(tmp_path, pooling)
    model, reference = on_openvino(folder, tmp_path / "cache"), on_torch(folder)
    rows = mixed_rows(model, 12)
    np.testing.assert_allclose(encoded(model, rows), encoded(reference, rows), atol=1e-5)


@CONVERTS_HERE
def test_a_prompt_that_is_not_pooled_is_left_out(tmp_path: Path) -> None:
    pooling: dict[str, object] = {"pooling_mode_mean_tokens": True, "include_prompt": False}
    folder = variant(tmp_path, pooling, {"query": "Represent the question: "})
    model, reference = on_openvino(folder, tmp_path / "cache"), on_torch(folder)
    assert model.prompts == reference.prompts
    rows = mixed_rows(model, 12, prompt=model.prompts.text("")) + mixed_rows(model, 3)
    np.testing.assert_allclose(encoded(model, rows), encoded(reference, rows), atol=1e-5)


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


def test_a_model_that_suffers_from_less_precision_runs_in_float32(
    built_in: Path, tmp_path: Path, converted_dir: Path
) -> None:
    on_openvino(built_in, converted_dir)
    (folder,) = converted_dir.glob(f"{built_in.name}-*")
    linked(folder, tmp_path / folder.name)
    record = CONVERSIONS.read(folder)
    assert record is not None
    record.cosines = {name: 1.0 if name == "f32" else 0.999 for name in record.cosines}
    CONVERSIONS.write(tmp_path / folder.name, record)
    assert on_openvino(built_in, tmp_path, "auto").precision == "f32"


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


def test_openvino_does_not_load_the_telemetry_that_pip_installs_beside_it(tmp_path: Path) -> None:
    (tmp_path / "openvino_telemetry.py").write_text("print('loaded')")
    code = "from embed_worker.encoders import openvino"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},  # noqa: TID251 - the outermost caller
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
