"""Models that two backends can run are measured while the worker is idle, and run on the faster."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from chat_worker.backend_speeds import FILE, BackendSpeeds, Comparison, Speeds
from chat_worker.discovery import ChatModelScan
from chat_worker.engine.runner import CacheOp, ScheduledTokens
from chat_worker.engine.sampling import LogitsRow
from chat_worker.engine.speeds import measured_speeds
from chat_worker.load_options import ChatLoadOptions
from chat_worker.settings import ChatSettings
from tests.unit.chat_worker.fake_runner import FakeRunner, limits
from worker_runtime.catalog import ModelEntry

OWN = Speeds(prompt=100.0, answer=20.0, memory_bytes=1 << 20)
FASTER = Speeds(prompt=400.0, answer=20.0, memory_bytes=1 << 20)


def chosen(folder: Path, **changed: Any) -> tuple[ChatLoadOptions, ModelEntry]:
    plain: dict[str, Any] = {
        "models_dir": folder,
        "model_path": folder / "none",
        "builtin_models": False,
        "converted_dir": folder / "converted",
        "learnt_dir": folder / "learnt",
        "_env_file": None,
    }
    settings = ChatSettings(**(plain | changed))
    scan = ChatModelScan(settings)
    (entry,) = scan().entries
    return ChatLoadOptions(scan, settings), entry


@pytest.fixture
def folder(tiny_gguf: Path, tmp_path: Path) -> Path:
    (tmp_path / "tiny.gguf").write_bytes(tiny_gguf.read_bytes())
    return tmp_path


def test_a_faster_backend_is_taken_from_the_next_load_on_and_the_reason_is_said(
    folder: Path,
) -> None:
    options, entry = chosen(folder)
    first = options(entry)[0]
    assert (first.entry.backend, first.entry.backend_reason) == ("llama.cpp", "")
    options.speeds.note(entry, Comparison("llama.cpp", OWN, FASTER))
    first, *others = options(entry)
    assert first.entry.backend == "openvino"
    assert "400 prompt tokens/s (4.0 times llama.cpp's)" in first.entry.backend_reason
    # If it fails, the other one answers.
    assert any(option.entry.backend == "llama.cpp" for option in others)


@pytest.mark.parametrize(
    "found",
    [
        Comparison("llama.cpp", OWN, msgspec.structs.replace(OWN, prompt=104.0)),
        Comparison("llama.cpp", FASTER, OWN),
        Comparison("llama.cpp", OWN, refusal="its logits differ"),
    ],
)
def test_else_the_backend_of_the_format_stays_and_the_reason_is_said(
    found: Comparison, folder: Path
) -> None:
    options, entry = chosen(folder)
    options.speeds.note(entry, found)
    loads = options(entry)
    assert {option.entry.backend for option in loads} == {"llama.cpp"}
    assert loads[0].entry.backend_reason == found.text
    assert options.to_compare(entry) is None


def test_a_setting_overrides_what_was_measured(folder: Path) -> None:
    options, entry = chosen(folder)
    options.speeds.note(entry, Comparison("llama.cpp", OWN, FASTER))
    options, entry = chosen(folder, backend="llama.cpp")
    assert options(entry)[0].entry.backend == "llama.cpp"
    assert options.to_compare(entry) is None


def test_a_model_is_measured_on_both_with_little_memory(folder: Path) -> None:
    options, entry = chosen(folder)
    pair = options.to_compare(entry)
    assert pair is not None
    assert [option.entry.backend for option in pair] == ["llama.cpp", "openvino"]
    assert pair[0].need.total < options(entry)[0].need.total


def test_other_files_and_other_settings_are_measured_anew(folder: Path) -> None:
    options, entry = chosen(folder)
    options.speeds.note(entry, Comparison("llama.cpp", OWN, FASTER))
    assert options.speeds.of(entry) is not None
    options, entry = chosen(folder, precision="bf16")
    assert options.speeds.of(entry) is None
    changed = msgspec.structs.replace(entry, fingerprint="fp_other")
    assert options.speeds.of(changed) is None


def test_a_damaged_file_is_as_none(folder: Path) -> None:
    options, entry = chosen(folder)
    speeds = BackendSpeeds(folder / "learnt" / FILE)
    speeds.note(entry, Comparison("llama.cpp", OWN, FASTER))
    (folder / "learnt" / FILE).write_bytes(b"{")
    assert options.speeds.of(entry) is None
    speeds.note(entry, Comparison("llama.cpp", OWN))
    assert options.speeds.of(entry) == Comparison("llama.cpp", OWN)


class SlowRunner(FakeRunner):
    """Each round of steps takes other times."""

    now_s = 0.0

    def __init__(self, *step_s: float) -> None:
        super().__init__(limits(n_batch=64))
        self._step_s = list(step_s)

    def run(self, items: list[ScheduledTokens]) -> list[LogitsRow]:
        self.now_s += self._step_s[0]
        return super().run(items)

    def apply(self, op: CacheOp) -> None:
        super().apply(op)
        self._step_s.pop(0)


def test_speeds_are_those_of_the_fastest_round() -> None:
    runner = SlowRunner(0.004, 0.001, 0.002)
    found = measured_speeds(runner, lambda: runner.now_s)
    assert found.prompt == pytest.approx(64 / 0.001)
    assert found.answer == pytest.approx(1 / 0.001)
    assert runner.length(0) == 0


def test_a_slow_model_is_measured_in_one_round() -> None:
    runner = SlowRunner(1.0, 0.001)
    assert measured_speeds(runner, lambda: runner.now_s).answer == pytest.approx(1.0)
