"""`y26hkx estimate`: what it prints of models, and what it says where there is none."""

import json
import shutil
from pathlib import Path

import pytest

from chat_worker.discovery import ChatModelScan
from chat_worker.load_options import ChatLoadOptions
from chat_worker.settings import ChatSettings
from cli.__main__ import main
from worker_runtime.lifecycle.calibration import FILE, Calibration
from worker_runtime.memory.probe import ProcessMemory

ROOT = Path(__file__).resolve().parents[3]
GUIDE = ROOT / "models" / "guide" / "qwen2-y26hkx-guide.gguf"
GUIDE_FOLDER = ROOT / "models" / "guide" / "qwen2-y26hkx-guide"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["estimate", *arguments, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def parts(found: dict[str, object]) -> dict[str, int]:
    held = found["parts"]
    assert isinstance(held, dict)
    return held


def test_the_table_names_every_part_and_their_sum(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", str(GUIDE), "--ctx", "1024"]) == 0
    out = capsys.readouterr().out
    for words in ("weights", "KV cache", "process", "total", "available now", "fits"):
        assert words in out


def test_the_sum_is_of_the_parts_and_options_change_what_they_should(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = printed(capsys, str(GUIDE), "--ctx", "1024", "--slots", "4")
    assert sum(parts(plain).values()) == plain["total_bytes"]
    half = printed(capsys, str(GUIDE), "--ctx", "1024", "--slots", "2")
    assert parts(half)["kv"] * 2 == parts(plain)["kv"]
    small = printed(capsys, str(GUIDE), "--ctx", "1024", "--slots", "4", "--kv-type", "q8_0")
    assert parts(small)["kv"] / parts(plain)["kv"] == pytest.approx(34 / 64)


def test_a_folder_is_estimated_for_transformers_in_the_wanted_numbers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wide = printed(capsys, str(GUIDE_FOLDER), "--dtype", "float32")
    narrow = printed(capsys, str(GUIDE_FOLDER), "--dtype", "bfloat16")
    assert wide["backend"] == narrow["backend"] == "transformers"
    assert parts(wide)["weights"] == parts(narrow)["weights"] * 2


def test_what_a_worker_learnt_of_a_model_is_part_of_its_estimate(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "models" / "some.gguf"
    model.parent.mkdir()
    shutil.copy(GUIDE, model)
    monkeypatch.setenv("MEMORY_LEARNT_DIR", str(tmp_path))
    settings = ChatSettings(models_dir=model.parent)
    scan = ChatModelScan(settings)
    entry = next(entry for entry in scan().entries if entry.id == "some")
    option, *_ = ChatLoadOptions(scan, settings)(entry)
    Calibration(tmp_path / FILE).note(option, ProcessMemory(2 * option.need.total))
    monkeypatch.chdir(tmp_path)
    found = printed(capsys, "models/some.gguf")
    assert parts(found)["correction"] == option.need.total
    assert found["total_bytes"] == 2 * option.need.total


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "does not exist"),
        ([str(ROOT / "README.md")], "is no model"),
        ([str(ROOT / "tests")], "is no model"),
        ([str(GUIDE), "--kv-type", "q9"], "kv_type"),
        ([str(GUIDE), "--slots", "0"], "parallel"),
    ],
)
def test_what_is_no_model_or_no_option_is_one_line_and_status_1(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["estimate", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("model_id", ["qwen2-y26hkx-guide", "All-MiniLM-L6-v2"])
def test_a_model_is_estimated_by_its_id(capsys: pytest.CaptureFixture[str], model_id: str) -> None:
    assert main(["estimate", model_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total_bytes"] > 0


def test_a_truncated_file_is_said_to_be_that(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(GUIDE.read_bytes()[:100_000])
    assert main(["estimate", str(broken)]) == 1
    assert "truncated" in capsys.readouterr().err
