"""`y26hkx selftest` and what the doctor makes of it."""

import json
from pathlib import Path

import pytest

from cli import doctor_checks, selftest
from cli.__main__ import main
from worker_runtime.machine import kernel_memory
from worker_runtime.machine.kernel_memory import Fault
from worker_runtime.machine.kernel_report import KernelReport, Outcome, Trial

FINE = Outcome((Trial("q4_0", "CPU", 0.005),))
DIED = Outcome((), "it died of signal 11 SIGSEGV with q4_0 in AMX")


def report(plain: Outcome = FINE, extra: Outcome = FINE) -> KernelReport:
    return KernelReport("a processor", "AVX2 = 1", plain, extra, 1.0)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_LEARNT_DIR", str(tmp_path))


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (report(), selftest.OK),
        (report(plain=DIED, extra=Outcome()), selftest.BROKEN),
        (report(extra=DIED), selftest.WITHOUT_EXTRA_BUFFERS),
    ],
)
def test_the_exit_status_says_how_it_went_also_when_that_was_known(
    found: KernelReport,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(kernel_memory, "run_selftest", lambda _: found)
    assert main(["selftest"]) == status
    assert "q4_0       CPU" in capsys.readouterr().out or found.plain.failure
    monkeypatch.setattr(kernel_memory, "run_selftest", None)
    assert main(["selftest", "--brief"]) == status
    assert capsys.readouterr().out == f"{found.summary}\n"


def test_for_scripts_it_is_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernel_memory, "run_selftest", lambda _: report(extra=DIED))
    assert main(["selftest", "--json", "--again"]) == selftest.WITHOUT_EXTRA_BUFFERS
    told = json.loads(capsys.readouterr().out)
    assert not told["may_use_extra_buffers"]
    assert told["extra"]["failure"] == DIED.failure
    assert told["models_without_extra_buffers"] == []


def test_the_doctor_warns_of_kernels_that_fail_and_of_models_that_broke_down() -> None:
    fault = {"fp": Fault("some-model", "signal 11 SIGSEGV")}
    (broken,) = doctor_checks.kernels(report(plain=DIED), {})
    reduced, model = doctor_checks.kernels(report(extra=DIED), fault)
    assert (broken.severity, reduced.severity, model.severity) == ("failure", "warning", "warning")
    assert "SIGSEGV with q4_0 in AMX" in reduced.message
    assert "some-model" in model.message
    assert list(doctor_checks.kernels(report(), {})) == []
