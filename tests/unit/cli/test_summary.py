"""What the start-up summary warns of."""

from pathlib import Path

import pytest

from cli.machine import GIB, Memory, from_meminfo, memory
from cli.serve import stages
from cli.settings import SettingsError, StackSettings
from cli.summary import risks, summary

ROOMY = Memory(32 * GIB, 30 * GIB, 32 * GIB)
SMALL = Memory(4 * GIB, 3 * GIB, 8 * GIB)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def said(options: dict[str, str], found: Memory, system: str = "linux") -> str:
    return "\n".join(risks(StackSettings.read(options), found, system))


def test_a_roomy_machine_with_defaults_has_no_risks() -> None:
    assert said({}, ROOMY) == ""


def test_a_missing_or_small_page_file_is_named() -> None:
    assert "no swap" in said({}, Memory(32 * GIB, 30 * GIB, 0))
    assert "1455" in said({}, Memory(32 * GIB, 30 * GIB, 4 * GIB), "win32")
    assert said({}, ROOMY, "win32") == ""


def test_heavy_settings_on_a_small_machine_are_named() -> None:
    heavy = {"MODEL_BACKEND": "transformers", "MAX_INPUT_TOKENS": "4096", "COMPILE_MODEL": "1"}
    found = said(heavy, SMALL)
    assert "MODEL_QUANTIZATION=4bit" in found
    assert "MAX_INPUT_TOKENS=4096" in found
    assert "COMPILE_MODEL" in found


def test_an_open_address_without_keys_is_named() -> None:
    assert "API_KEYS" in said({"GATEWAY_HOST": "0.0.0.0"}, ROOMY)
    assert said({"GATEWAY_HOST": "0.0.0.0", "API_KEYS": "k"}, ROOMY) == ""


def test_the_summary_tells_the_address_and_no_secret() -> None:
    options = {"GATEWAY_PORT": "9", "API_KEYS": "canary-key", "WORKER_TOKEN": "canary-token"}
    settings = StackSettings.read(options)
    text = "\n".join(summary(settings, 9))
    assert "http://127.0.0.1:9/v1" in text
    assert "canary" not in text + repr(settings) + repr(stages(settings, 9))


def test_the_file_gives_way_to_the_environment_and_that_to_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("GATEWAY_PORT=1\nGATEWAY_HOST=::1\nCHAT_WORKER_PORT=3\n")
    monkeypatch.setenv("GATEWAY_PORT", "2")
    monkeypatch.setenv("CHAT_WORKER_PORT", "4")
    settings = StackSettings.read({"CHAT_WORKER_PORT": "5"})
    assert (settings.host, settings.port, settings.chat_port) == ("::1", 2, 5)


def test_a_port_that_is_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="GATEWAY_PORT=70000"):
        StackSettings.read({"GATEWAY_PORT": "70000"})


def test_workers_elsewhere_mean_none_here() -> None:
    gateway, workers = stages(StackSettings.read({"CHAT_WORKERS": "gpu-box:50051"}), 9)
    assert gateway[0].env["CHAT_WORKERS"] == "gpu-box:50051"
    assert [worker.name for worker in workers] == ["embed"]


def test_meminfo_is_read_in_kib() -> None:
    text = "MemTotal:  2048 kB\nMemAvailable: 1024 kB\nSwapTotal: 0 kB\nHugePages_Total: 0\n"
    assert from_meminfo(text) == Memory(2 * 2**20, 2**20, 0)
    assert memory().total_bytes != 0
