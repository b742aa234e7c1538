"""What the doctor finds on this machine, with settings that are wrong in known ways."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chat_worker.settings import ChatSettings
from cli import doctor_checks
from cli.__main__ import main
from cli.capacity import ModelCapacity, capacities
from cli.doctor import as_dict, as_text, examine
from cli.hardware import ARM_FEATURES, FEATURES, hardware
from cli.settings import StackSettings
from common.sizes import GIB
from embed_worker.settings import EmbedSettings
from tests.running_stack import ROOT, free_port
from worker_runtime.libraries import OF_BACKENDS, Libraries
from worker_runtime.machine import Machine
from worker_runtime.machine.processor import from_cpuinfo

FREE = {"GATEWAY_PORT": "0"}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVERTED_MODELS_DIR", str(tmp_path / "converted"))


def found(options: dict[str, str]) -> dict[str, str]:
    """Severities by id."""
    report = examine(StackSettings.read(FREE | options))
    return {risk.id: risk.severity for risk in report.risks}


def fit(**changes: object) -> ModelCapacity:
    facts: dict[str, object] = {
        "id": "some-model",
        "capability": "chat",
        "backend": "remote",
        "is_default": True,
        "size_bytes": GIB,
        "quantization": "",
        "context_length": 0,
        "need_bytes": 3 * GIB,
        "least_bytes": 2 * GIB,
        "room_bytes": 20 * GIB,
        "verdict": "fits",
        "reductions": [],
        "backend_reason": "",
        "broken": "",
    }
    return ModelCapacity(**facts | changes)  # type: ignore[arg-type]


def test_a_healthy_machine_is_found_so_and_json_has_its_keys(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "0")
    monkeypatch.setenv("API_KEYS", "canary")
    assert main(["doctor", "--json"]) == 0
    text = capsys.readouterr().out
    assert "canary" not in text
    report = json.loads(text)
    assert report.keys() == {"ok", "machine", "profile", "kernels", "models", "risks"}
    assert report["kernels"]["plain"]["failure"] == ""
    assert report["profile"].keys() == {"size", "choices"}
    assert report["machine"].keys() >= {
        *("total_bytes", "available_bytes", "memory_bytes", "limit_bytes", "swap_bytes"),
        *("free_disk_bytes", "cores", "physical_cores", "quota_cores"),
        *("overcommit", "system", "python", "processor", "features", "gpus", "quantizes"),
    }
    (guide,) = (m for m in report["models"] if m["id"] == "qwen2-y26hkx-guide")
    assert guide["is_default"]
    assert 0 < guide["size_bytes"] < guide["need_bytes"]
    assert guide["verdict"] == "fits"
    assert guide.keys() == ModelCapacity.__dataclass_fields__.keys()
    for risk in report["risks"]:
        assert risk.keys() == {"id", "severity", "message", "way_out"}


def test_no_model_library_is_imported() -> None:
    code = (
        "import sys; from cli.doctor import examine; from cli.settings import StackSettings; "
        "examine(StackSettings.read({})); "
        "print(sorted({'torch', 'transformers', 'llama_cpp', 'openvino'} & sys.modules.keys()))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_names_that_are_nearly_ours_are_asked_about(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MODEL_PATHS=x\nSOMEBODY_ELSES=1\nCHAT_MEMORY=4g\n")
    said = {risk.message: risk for risk in examine(StackSettings.read(FREE)).risks}
    near = said["MODEL_PATHS is no setting of this server"]
    assert (near.severity, near.way_out) == ("failure", "did you mean MODEL_PATH?")
    assert said["SOMEBODY_ELSES in .env is no setting of this server"].severity == "info"
    assert not any("CHAT_MEMORY" in message for message in said)


def test_all_that_the_example_of_settings_has_is_known(tmp_path: Path) -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    listed = re.findall(r"^#([A-Z0-9_]+)=", example, re.MULTILINE)
    assert len(listed) > 100
    (tmp_path / ".env").write_text("".join(f"{name}=\n" for name in listed))
    settings = StackSettings.read(FREE)
    risks = doctor_checks.names(settings, listed)
    assert [str(risk) for risk in risks if risk.id == "unknown_name"] == []


def test_an_old_setting_is_good_to_know_and_no_unknown_name(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOW_CPU_MEM_USAGE=1\nMODEL_UNLOAD_ENABLED=0\n")
    risks = examine(StackSettings.read(FREE)).risks
    said = {risk.message: risk.severity for risk in risks if risk.id == "deprecated_setting"}
    assert {message.partition("=")[0] for message in said} == {
        *("LOW_CPU_MEM_USAGE", "MODEL_UNLOAD_ENABLED")
    }
    assert set(said.values()) == {"info"}
    assert not any(risk.id == "unknown_name" for risk in risks)


def test_values_that_services_refuse_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CTX", "much")
    monkeypatch.setenv("EMBEDDING_BACKEND", "none")
    report = examine(StackSettings.read(FREE))
    refused = [risk.message for risk in report.risks if risk.id == "invalid_setting"]
    assert [message.partition(":")[0] for message in refused] == ["LLAMA_CTX", "EMBEDDING_BACKEND"]
    assert not report.ok
    assert "the server will not work until the failures are fixed" in as_text(report)


def test_a_port_that_another_program_has_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as other:
        port = str(other.getsockname()[1])
        assert found({"GATEWAY_PORT": port})["port_taken"] == "failure"


def test_folders_that_miss_or_cannot_be_written_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found({})["no_models_folder"] == "info"
    assert found({"MODELS_DIR": "elsewhere"})["no_models_folder"] == "failure"
    (tmp_path / "file").touch()
    monkeypatch.setenv("CONVERTED_MODELS_DIR", str(tmp_path / "file"))
    assert found({})["unwritable_folder"] == "failure"


def test_a_wrong_models_toml_is_the_failure_that_it_is_for_a_start(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text("[model\nx=")
    assert found({"MODELS_DIR": str(tmp_path)})["models_toml_wrong"] == "failure"


def test_a_wrong_models_toml_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "models.toml").write_text("[model\nx=")
    found({"MODELS_DIR": str(tmp_path)})
    assert "models.toml" not in caplog.text


def test_a_list_of_models_tells_once_what_is_wrong_with_models_toml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models.toml").write_text("[model\nx=")
    monkeypatch.setenv("MODELS_DIR", str(tmp_path))
    assert main(["ls"]) == 0
    assert capsys.readouterr().err.count("models.toml") == 1


def test_a_main_model_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_PATH", "gone.gguf")
    assert found({})["main_model_missing"] == "failure"


def test_a_default_model_that_can_never_fit_is_a_failure() -> None:
    def severities(model: ModelCapacity, machine: Machine) -> list[str]:
        return [risk.severity for risk in doctor_checks.default_models([model], machine)]

    contained = Machine(32 * GIB, GIB, limit_bytes=GIB)
    assert severities(fit(), contained) == ["failure"]
    assert severities(fit(is_default=False), contained) == []
    assert severities(fit(verdict="does not fit"), Machine(32 * GIB, GIB)) == ["warning"]
    assert severities(fit(broken="no tensors"), Machine(32 * GIB)) == ["failure"]


def test_models_are_compared_with_what_is_free_now_and_with_the_budgets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def verdicts(machine: Machine) -> dict[str, str]:
        return {f.id: f.verdict for f in capacities(ChatSettings(), EmbedSettings(), machine)}

    full = verdicts(Machine(8 * GIB, GIB // 2))
    assert set(full.values()) == {"does not fit"}
    roomy = verdicts(Machine(8 * GIB, 6 * GIB))
    assert set(roomy.values()) == {"fits"}
    monkeypatch.setenv("EMBEDDING_MEMORY_LIMIT_GB", "0.1")
    assert set(verdicts(Machine(8 * GIB, 6 * GIB)).values()) == {"fits", "does not fit"}


def test_packages_that_the_default_model_needs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OF_BACKENDS, "remote", Libraries(("no_such_package",), "remote"))
    (risk,) = doctor_checks.packages([fit()])
    assert (risk.severity, "no_such_package" in risk.message) == ("failure", True)
    (risk,) = doctor_checks.packages([fit(capability="embed")])
    assert risk.severity == "warning"
    assert list(doctor_checks.packages([fit(backend="llama.cpp")])) == []


def test_an_old_python_is_a_failure() -> None:
    assert [risk.severity for risk in doctor_checks.python_version((3, 10))] == ["failure"]
    assert list(doctor_checks.python_version()) == []


def test_the_processor_is_read_as_linux_writes_it() -> None:
    text = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 amx_bf16 fma\n\nflags: no\n"
    assert from_cpuinfo(text).name == "Some CPU"
    assert from_cpuinfo(text).has(*FEATURES) == ["avx2", "fma", "amx_bf16"]
    assert from_cpuinfo("Features\t: fp asimd i8mm\n").has(*ARM_FEATURES) == ["asimd", "i8mm"]
    assert hardware().processor


def test_the_report_is_the_same_for_people_and_scripts() -> None:
    report = examine(StackSettings.read(FREE))
    text = "\n".join(as_text(report))
    assert all(risk.message in text for risk in report.risks)
    assert json.loads(json.dumps(as_dict(report)))["ok"] is report.ok
