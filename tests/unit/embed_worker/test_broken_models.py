"""Embedding models that are listed as broken, with the reason: they would not run, or run code."""

import json
import shutil
from pathlib import Path

import pytest

from embed_worker.discovery import BUILT_IN_ID
from tests.unit.embed_worker.model_folders import by_id, scan, write_cross_encoder, write_model

CHAT_MODEL = Path(__file__).parents[3] / "models" / "guide" / "qwen2-y26hkx-guide.gguf"


def test_a_broken_model_is_listed_with_its_reason_and_is_never_the_default(
    tmp_path: Path,
) -> None:
    write_model(tmp_path / "broken")
    weights = tmp_path / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    found = scan(tmp_path, default_model="broken")
    assert "truncated" in by_id(found)["broken"].broken
    assert found.default_id == BUILT_IN_ID


@pytest.mark.parametrize("module", ["custom.Evil", "os.system"])
def test_a_model_with_foreign_code_is_broken(tmp_path: Path, module: str) -> None:
    write_model(tmp_path / "evil", module=module)
    assert "foreign code" in by_id(scan(tmp_path))["evil"].broken


def test_pickled_weights_beside_the_main_ones_make_a_model_broken(tmp_path: Path) -> None:
    write_model(tmp_path / "one")
    (tmp_path / "one" / "2_Dense").mkdir()
    (tmp_path / "one" / "2_Dense" / "pytorch_model.bin").write_bytes(b"pickle")
    assert "pickled" in by_id(scan(tmp_path))["one"].broken


def test_a_reranker_of_another_kind_is_listed_as_broken_and_says_why(tmp_path: Path) -> None:
    write_model(tmp_path / "judge")
    own = {"model_type": "CrossEncoder"}
    (tmp_path / "judge" / "config_sentence_transformers.json").write_text(json.dumps(own))
    assert "not run here" in by_id(scan(tmp_path))["judge"].broken


def test_a_classifier_is_listed_as_broken_and_says_why(tmp_path: Path) -> None:
    write_cross_encoder(tmp_path / "mood", n_labels=3)
    assert "one output" in by_id(scan(tmp_path))["mood"].broken


@pytest.mark.parametrize("damage", ["auto_map", "pickled"])
def test_a_cross_encoder_with_code_or_pickled_weights_is_broken(
    tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "judge"
    write_cross_encoder(folder)
    if damage == "pickled":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    else:
        config = json.loads((folder / "config.json").read_text()) | {"auto_map": {}}
        (folder / "config.json").write_text(json.dumps(config))
    assert damage in by_id(scan(tmp_path))["judge"].broken


def test_a_gguf_file_that_does_not_say_how_it_pools_is_broken(tmp_path: Path) -> None:
    folder = tmp_path / "embedding"
    folder.mkdir()
    shutil.copy(CHAT_MODEL, folder / "chat.gguf")
    assert "become one" in by_id(scan(tmp_path))["chat"].broken


@pytest.mark.parametrize("name", ["../outside", "a/b", "a\\b", "..", "a\0b"])
def test_modules_lie_within_the_models_folder(tmp_path: Path, name: str) -> None:
    write_model(tmp_path / "one")
    module = {"idx": 0, "path": name, "type": "sentence_transformers.models.Transformer"}
    (tmp_path / "one" / "modules.json").write_text(json.dumps([module]))
    assert "modules.json names" in by_id(scan(tmp_path))["one"].broken


@pytest.mark.parametrize(
    ("module", "model_type", "reason"),
    [
        ("sentence_transformers.sparse_encoder.modules.SpladePooling", "", "sparse encoder"),
        ("sentence_transformers.models.Transformer", "SparseEncoder", "sparse encoder"),
        ("sentence_transformers.models.Transformer", "MultiVectorEncoder", "ColBERT"),
    ],
)
def test_kinds_of_models_that_are_not_run_are_refused_by_name(
    tmp_path: Path, module: str, model_type: str, reason: str
) -> None:
    write_model(tmp_path / "one", module=module)
    own = {"model_type": model_type or "SentenceTransformer"}
    (tmp_path / "one" / "config_sentence_transformers.json").write_text(json.dumps(own))
    assert reason in by_id(scan(tmp_path))["one"].broken


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "module.pkl"])
def test_pickles_are_found_in_whatever_folder_a_module_lies(tmp_path: Path, name: str) -> None:
    write_model(tmp_path / "one")
    kinds = {"": "Transformer", "head": "Dense"}
    modules = [
        {"path": path, "type": f"sentence_transformers.models.{kind}"}
        for path, kind in kinds.items()
    ]
    (tmp_path / "one" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "one" / "head").mkdir()
    (tmp_path / "one" / "head" / name).write_bytes(b"pickle")
    assert "pickled" in by_id(scan(tmp_path))["one"].broken


def test_an_adapter_is_refused_in_words(tmp_path: Path) -> None:
    write_model(tmp_path / "one")
    (tmp_path / "one" / "adapter_config.json").write_text("{}")
    assert "adapter" in by_id(scan(tmp_path))["one"].broken
