"""The self-test of llama.cpp's matrix products: with the library here, and with those that fail."""

import os
import platform
import shutil
from pathlib import Path
from typing import Literal

import pytest

from tests.faulting_kernels import faulting_library, require_reached
from worker_runtime.machine import kernel_report
from worker_runtime.machine.kernel_report import NotTested, run_selftest

QUANTIZED = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_K", "q3_K", "q4_K", "q5_K", "q6_K"}
OTHERS = {"iq4_nl", "iq4_xs", "iq3_s", "iq3_xxs", "mxfp4", "f16", "bf16"}


def environment(**added: str) -> dict[str, str]:
    return {**os.environ, **added}  # noqa: TID251 - the test is the outermost caller


def test_every_weight_type_is_computed_rightly_on_this_processor() -> None:
    report = run_selftest(environment())
    assert (report.plain.failure, report.extra.failure) == ("", "")
    assert {trial.type for trial in report.plain.trials} >= QUANTIZED | OTHERS
    assert max(trial.error for trial in report.plain.trials) < kernel_report.TOLERANCE / 2
    assert report.processor
    assert "rightly" in report.summary


def test_a_product_that_ends_the_process_is_named_with_its_type_and_buffer(tmp_path: Path) -> None:
    report = run_selftest(environment(**faulting_library(tmp_path)))
    require_reached(report.extra)
    assert report.runs_here
    assert not report.may_use_extra_buffers
    assert "SIGSEGV with q4_0 in" in report.extra.failure
    assert report.summary.startswith("llama.cpp computes without its extra CPU buffers")


@pytest.mark.parametrize("what", ["zeros", "nans"])
def test_a_product_that_is_wrong_is_named_with_its_type_and_buffer(
    tmp_path: Path, what: Literal["zeros", "nans"]
) -> None:
    report = run_selftest(environment(**faulting_library(tmp_path, what)))
    require_reached(report.extra)
    assert "product of q4_0 in" in report.extra.failure
    assert report.runs_here


@pytest.mark.timeout(400)
def test_a_processor_with_avx2_only_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A portable library computes there; one made for a newer processor, as on a disk that was
    moved, is told apart instead of ending engine after engine."""
    emulator = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if emulator is None or platform.machine() != "x86_64":
        pytest.skip("no qemu-x86_64 (Debian: qemu-user), or another kind of processor")
    monkeypatch.setattr(kernel_report, "WITHIN_S", 180.0)
    is_native = "AVX512 = 1" in run_selftest(environment()).system_info
    report = run_selftest(environment(), (emulator, "-cpu", "Haswell"))
    if is_native:
        assert "SIGILL" in report.summary
        assert not report.runs_here
    else:
        assert "rightly" in report.summary


def test_a_library_that_cannot_be_imported_is_not_tested(tmp_path: Path) -> None:
    (tmp_path / "llama_cpp").mkdir()
    (tmp_path / "llama_cpp" / "__init__.py").write_text("")
    with pytest.raises(NotTested, match="exit code 1"):
        run_selftest(environment(PYTHONPATH=str(tmp_path)))


def test_a_machine_that_is_too_busy_says_nothing_of_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel_report, "WITHIN_S", 0.01)
    with pytest.raises(NotTested, match="it took more than"):
        run_selftest(environment())
