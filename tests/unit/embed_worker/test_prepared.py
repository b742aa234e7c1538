"""The conversions that come with the package: they are what the converter would make."""

from pathlib import Path

import numpy as np
import openvino
import pytest

from embed_worker.discovery import built_in_folder
from embed_worker.encoders import openvino as openvino_encoder
from embed_worker.encoders import torch as torch_encoder
from embed_worker.encoders.conversion_files import GRAPH, WEIGHTS
from embed_worker.encoders.convert import PROBES, convert
from embed_worker.encoders.loaded import LoadedEncoder
from embed_worker.encoders.prepared import FOLDER, assemble, prepared_for
from worker_runtime.conversion.cache import Conversions

LEAST_COSINE = 0.999999


@pytest.fixture(scope="module")
def built_in() -> Path:
    folder = built_in_folder()
    assert folder is not None
    return folder


def vectors(model: LoadedEncoder) -> np.ndarray:
    rows = model.tokens.rows(PROBES).rows
    return np.stack([np.frombuffer(model.runner.encode([row]), "<f4") for row in rows])


def operations(graph: Path) -> list[str]:
    return sorted(op.get_type_name() for op in openvino.Core().read_model(graph).get_ops())


def test_the_built_in_model_is_loaded_from_its_prepared_graph_without_a_converter(
    built_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_converter(*_: object) -> None:
        raise AssertionError("a converter was started")

    monkeypatch.setattr(Conversions, "_convert", no_converter)
    loaded = openvino_encoder.load(
        built_in, cache=tmp_path, precision="f32", n_threads=0, on_progress=lambda *_: None
    )
    expected = vectors(
        torch_encoder.load(built_in, device="cpu", n_threads=0, on_progress=lambda *_: None)
    )
    found = vectors(loaded)
    assert (found * expected).sum(axis=1).min() >= LEAST_COSINE


def test_the_prepared_graph_is_still_what_the_converter_makes(
    built_in: Path, tmp_path: Path
) -> None:
    prepared = prepared_for(built_in)
    assert prepared is not None
    assembled, converted = tmp_path / "assembled", tmp_path / "converted"
    assembled.mkdir()
    converted.mkdir()
    made = assemble(prepared, built_in, assembled)
    record = convert(built_in, converted, lambda *_: None)
    assert operations(assembled / GRAPH) == operations(converted / GRAPH)
    assert (assembled / WEIGHTS).read_bytes() == (converted / WEIGHTS).read_bytes()
    for field in ("dimension", "max_tokens", "n_embedded", "pad_id", "unpadded", "prompts"):
        assert getattr(made, field) == getattr(record, field), field
    assert made.cosines.keys() >= {"f32", "bf16"}


def test_a_model_that_differs_in_one_file_is_not_taken_for_the_prepared_one(
    built_in: Path, tmp_path: Path
) -> None:
    other = tmp_path / "model"
    for file in built_in.rglob("*"):
        target = other / file.relative_to(built_in)
        if file.is_dir():
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    assert prepared_for(other) is not None
    config = other / "config.json"
    config.write_bytes(config.read_bytes().replace(b"gelu", b"relu"))
    assert prepared_for(other) is None


def test_each_prepared_graph_names_the_model_that_it_is_for() -> None:
    assert [folder.name for folder in sorted(FOLDER.iterdir())] == ["all-MiniLM-L6-v2"]
