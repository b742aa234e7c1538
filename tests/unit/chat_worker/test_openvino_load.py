"""Loading chat models onto OpenVINO: conversions, kept and made again, and errors with reasons."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chat_worker.backends.openvino import compiled
from chat_worker.conversions import GRAPH, WEIGHTS, folder_for
from chat_worker.discovery import ChatModelScan
from common.errors import BackendLoadFailed
from tests.unit.chat_worker.openvino_models import greedy, on_openvino, settings
from worker_runtime.catalog import Scan
from worker_runtime.machine.processor import Processor


def scan(models_dir: Path) -> Scan:
    return ChatModelScan(settings(models_dir))()


@pytest.mark.usefixtures("converts_here")
def test_a_damaged_conversion_is_made_again(tiny_folder: Path, tmp_path: Path) -> None:
    on_openvino(tiny_folder, tmp_path).runner.close()
    (kept,) = folder_for(str(tmp_path), 32).glob("[!.]*")
    whole = (kept / GRAPH).read_text("utf-8")
    (kept / GRAPH).write_text(whole[:1000], "utf-8")
    on_openvino(tiny_folder, tmp_path).runner.close()
    again = (kept / GRAPH).read_text("utf-8")
    # OpenVINO numbers the nodes of all graphs that a process makes.
    assert re.sub(r"_\d+", "", again) == re.sub(r"_\d+", "", whole)


def test_a_folder_in_openvino_s_own_format_needs_no_conversion(
    tiny_folder: Path, converted_dir: Path, tmp_path: Path
) -> None:
    expected = greedy(on_openvino(tiny_folder, converted_dir).runner, [5, 6, 7])
    (kept,) = folder_for(str(converted_dir), 32).glob("tiny-*")
    folder = tmp_path / "as-on-a-hub"
    shutil.copytree(kept, folder)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder / name, folder)
    (entry,) = scan(tmp_path).entries
    assert (entry.backend, entry.broken) == ("openvino", "")
    assert entry.size_bytes >= (folder / WEIGHTS).stat().st_size
    backend = on_openvino(folder, tmp_path / "unused")
    assert greedy(backend.runner, [5, 6, 7]) == expected
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize(
    ("feature", "kind"), [("amx_bf16", "bf16"), ("avx512_bf16", "bf16"), ("avx512f", "f32")]
)
def test_bfloat16_is_chosen_where_the_processor_has_instructions_for_it(
    feature: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "read_processor", lambda: Processor("one", (feature,)))
    found = compiled.properties("auto", "f16", n_threads=0)
    assert found["INFERENCE_PRECISION_HINT"] == kind


def test_a_damaged_graph_is_an_error_with_a_way_forward(tiny_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder / name, tmp_path)
    (tmp_path / GRAPH).write_text("<net")
    (tmp_path / WEIGHTS).write_bytes(bytes(64))
    with pytest.raises(BackendLoadFailed, match="does not run on OpenVINO") as raised:
        on_openvino(tmp_path, tmp_path)
    assert raised.value.suggestions


def test_a_device_that_openvino_does_not_list_is_an_error_with_those_that_it_does(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    with pytest.raises(BackendLoadFailed, match=r"no device 'GPU.7'.*CPU"):
        on_openvino(tiny_gguf, tmp_path, device="GPU.7")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("module", ["load", "convert"])
def test_openvino_s_telemetry_is_never_imported(module: str, tmp_path: Path) -> None:
    (tmp_path / "openvino_telemetry.py").write_text("raise SystemExit('telemetry is imported')")
    command = [sys.executable, "-c", f"import chat_worker.backends.openvino.{module}"]
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=True, timeout=120)  # noqa: TID251 -- a test passes its own environment on
