"""What loads a chat model where OpenVINO is wanted: OpenVINO, else another with the reason."""

import json
import shutil
from pathlib import Path

import pytest

from chat_worker.conversions import CONVERSIONS, folder_for
from chat_worker.discovery import ChatModelScan
from chat_worker.load_options import ChatLoadOptions
from tests.unit.chat_worker.openvino_models import settings
from worker_runtime import libraries
from worker_runtime.libraries import Libraries
from worker_runtime.lifecycle.load_options import LoadOption


def options_of(models_dir: Path) -> list[LoadOption]:
    chosen = settings(models_dir, backend="openvino")
    found = ChatModelScan(chosen)
    (entry,) = found().entries
    return list(ChatLoadOptions(found, chosen)(entry))


def test_a_model_is_loaded_by_openvino_else_by_transformers_with_the_reason(
    tiny_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "tiny")
    first, *others = options_of(tmp_path)
    assert (first.entry.backend, first.reductions) == ("openvino", ())
    assert first.need.converting > 0
    instead = next(option for option in others if option.entry.backend == "transformers")
    assert instead.reductions[0] == "on transformers, not OpenVINO: it could not be loaded there"


def test_a_model_that_is_not_converted_is_loaded_by_transformers_at_once(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu"}))
    options = options_of(tmp_path)
    assert {option.entry.backend for option in options} == {"transformers"}
    assert "activation function" in options[0].reductions[0]


def test_a_conversion_that_was_refused_is_not_tried_again(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
    cache = folder_for(str(tmp_path / "converted"), 8)
    (cache / "tiny-0").mkdir(parents=True)
    CONVERSIONS.write(cache / "tiny-0", CONVERSIONS.refused(folder, "its form differs"))
    assert "its form differs" in options_of(tmp_path)[0].reductions[0]


def test_a_gguf_file_is_loaded_by_openvino_else_by_llama_cpp_with_the_reason(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    shutil.copy(tiny_gguf, tmp_path)
    first, *others = options_of(tmp_path)
    assert (first.entry.backend, first.reductions) == ("openvino", ())
    assert first.need.converting > 0
    instead = next(option for option in others if option.entry.backend == "llama.cpp")
    assert instead.reductions[0] == "on llama.cpp, not OpenVINO: it could not be loaded there"


def test_without_openvino_models_run_on_the_backend_of_their_format_with_the_reason(
    tiny_gguf: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(tiny_gguf, tmp_path / "file.gguf")
    shutil.copytree(tiny_folder, tmp_path / "folder")
    missing = Libraries(("no_such_module",), "openvino")
    monkeypatch.setitem(libraries.OF_BACKENDS, "openvino", missing)
    chosen = settings(tmp_path, backend="openvino")
    found = ChatModelScan(chosen)
    entries = {entry.id: entry for entry in found().entries}
    assert {entry.broken for entry in entries.values()} == {""}
    for name, backend in (("file", "llama.cpp"), ("folder", "transformers")):
        first = ChatLoadOptions(found, chosen)(entries[name])[0]
        assert first.entry.backend == backend
        assert first.reductions[0].endswith("not OpenVINO: OpenVINO is not installed")
