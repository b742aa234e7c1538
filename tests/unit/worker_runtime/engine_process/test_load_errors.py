"""What a client learns of a load that failed."""

import sys

import pytest

from common.errors import BackendLoadFailed
from worker_runtime.engine_process.interface import ExitReport
from worker_runtime.engine_process.load_errors import (
    broke_down,
    completed,
    died_while_loading,
    out_of_memory,
    raised_while_loading,
    with_arithmetic,
)
from worker_runtime.memory.insufficient import Holder


def test_suggestions_fit_the_backend() -> None:
    transformers = raised_while_loading("transformers", MemoryError())
    llama = raised_while_loading("llama.cpp", MemoryError())
    assert any("MODEL_QUANTIZATION=4bit" in way for way in transformers.suggestions)
    assert any("COMPILE_MODEL=0" in way for way in transformers.suggestions)
    assert not any("4bit" in way for way in llama.suggestions)
    assert transformers.metadata == {
        "backend": "transformers",
        "cause": "memory",
        "reason": "memory",
    }


def test_the_page_file_is_spoken_of_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert "16 GB" in out_of_memory("llama.cpp").suggestions[0]
    monkeypatch.setattr(sys, "platform", "linux")
    assert not any("page file" in way for way in out_of_memory("llama.cpp").suggestions)


def test_a_full_gpu_is_not_helped_by_a_page_file() -> None:
    error = raised_while_loading("transformers", RuntimeError("CUDA out of memory."))
    assert "on the GPU" in error.message
    assert "GPU" in error.suggestions[0]


def test_what_the_engine_noticed_gets_ways_out_on_this_side() -> None:
    error = completed("llama.cpp", out_of_memory("", "page_file"))
    assert error.suggestions
    assert error.metadata["reason"] == "page_file"
    other = completed("llama.cpp", BackendLoadFailed("bad layer", suggestions=("mend it",)))
    assert (other.suggestions, other.metadata) == (("mend it",), {"backend": "llama.cpp"})


def test_the_arithmetic_is_shown() -> None:
    holders = [Holder("other", 2 << 30)]
    error = with_arithmetic(out_of_memory("x"), 3 << 30, 1 << 30, holders)
    for number in ("3,072 MiB", "1,024 MiB are available", "loaded now: other (2,048 MiB)"):
        assert number in error.message
    assert error.metadata["needed_bytes"] == str(3 << 30)
    assert error.metadata["reason"] == "memory"


def test_a_kill_that_nobody_here_sent_is_taken_for_the_kernels() -> None:
    assert "not enough memory" in str(died_while_loading("x", ExitReport(-9, "SIGKILL")))
    assert "SIGSEGV" in str(died_while_loading("x", ExitReport(-11, "SIGSEGV")))


def test_the_text_of_an_exception_is_not_shown() -> None:
    error = raised_while_loading("x", ValueError("/home/someone/secret.gguf"))
    assert "secret" not in str(error)
    assert "ValueError" in str(error)


@pytest.mark.parametrize(
    ("report", "is_fault"),
    [
        (ExitReport(-11, "SIGSEGV"), True),
        (ExitReport(-4, "SIGILL"), True),
        (ExitReport(-6, "SIGABRT"), True),
        (ExitReport(-11, "SIGSEGV", wanted=True), False),
        (ExitReport(-9, "SIGKILL"), False),
        (ExitReport(-15, "SIGTERM"), False),
        (ExitReport(70), False),
    ],
)
def test_a_fault_of_native_code_is_told_from_other_ends(
    report: ExitReport, is_fault: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert report.is_fault is is_fault
    assert broke_down(died_while_loading("llama.cpp", report)) is is_fault


@pytest.mark.parametrize(
    ("code", "is_fault"),
    [
        (0xC0000005, True),  # access violation
        (0xC000001D - 2**32, True),  # illegal instruction, as a signed number
        (3, True),  # abort
        (0xC000013A, False),  # Ctrl-C
        (0xC0000017, False),  # no memory
        (1, False),
    ],
)
def test_on_windows_a_fault_is_a_status_of_an_exception(
    code: int, is_fault: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert ExitReport(code).is_fault is is_fault
