"""What the start-up summary warns of."""

from pathlib import Path

import pytest

from cli.settings import SettingsError, StackSettings
from cli.stack import stages
from cli.startup_warnings import startup_warnings
from cli.summary import summary
from common.sizes import GIB
from worker_runtime.machine import Machine
from worker_runtime.machine.profile import choose

ROOMY = Machine(32 * GIB, 30 * GIB, 32 * GIB)
SMALL = Machine(4 * GIB, 3 * GIB, 8 * GIB)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def said(options: dict[str, str], found: Machine, system: str = "linux") -> str:
    return "\n".join(map(str, startup_warnings(StackSettings.read(options), found, system)))


def summed_up(options: dict[str, str], machine: Machine) -> list[str]:
    settings = StackSettings.read(options)
    return list(summary(settings, 9, machine, choose(machine, settings.values)))


def test_a_roomy_machine_with_defaults_has_no_risks() -> None:
    assert said({}, ROOMY) == ""


def test_the_second_port_is_said_where_there_is_one() -> None:
    assert not any("Ollama" in line for line in summed_up({}, ROOMY))
    lines = summed_up({"OLLAMA_COMPAT_PORT": "11434"}, ROOMY)
    assert any("http://127.0.0.1:11434" in line for line in lines)


def test_a_missing_or_small_page_file_is_named() -> None:
    assert "no swap" in said({}, Machine(32 * GIB, 30 * GIB, 0))
    assert "1455" in said({}, Machine(32 * GIB, 30 * GIB, 4 * GIB), "win32")
    assert said({}, ROOMY, "win32") == ""


def test_heavy_settings_on_a_small_machine_are_named() -> None:
    heavy = {"MODEL_BACKEND": "transformers", "MAX_INPUT_TOKENS": "4096", "COMPILE_MODEL": "1"}
    found = said(heavy, SMALL)
    assert "MODEL_QUANTIZATION=4bit" in found
    assert "MAX_INPUT_TOKENS=4096" in found
    assert "COMPILE_MODEL" in found
    quantized = Machine(4 * GIB, 3 * GIB, 8 * GIB, quantizes=True)
    assert said({"MODEL_BACKEND": "transformers"}, quantized) == ""


def test_an_open_address_without_keys_is_named() -> None:
    assert "API_KEYS" in said({"GATEWAY_HOST": "0.0.0.0"}, ROOMY)
    assert said({"GATEWAY_HOST": "0.0.0.0", "API_KEYS": "k"}, ROOMY) == ""


def test_the_summary_begins_with_the_consoles_address_unless_that_is_switched_off() -> None:
    assert summed_up({}, ROOMY)[0].startswith("console          http://127.0.0.1:9/ ")
    for off in ("0", "off", "false"):
        assert not any("console" in line for line in summed_up({"CONSOLE": off}, ROOMY))


def test_the_summary_tells_the_address_and_no_secret() -> None:
    options = {"GATEWAY_PORT": "9", "API_KEYS": "canary-key", "WORKER_TOKEN": "canary-token"}
    settings = StackSettings.read(options)
    text = "\n".join(summed_up(options, ROOMY))
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


def test_a_token_in_a_file_is_read_by_the_services_and_none_is_made_up() -> None:
    for options, given in (({}, True), ({"WORKER_TOKEN_FILE": "token"}, False)):
        groups = stages(StackSettings.read({"WORKER_TOKEN": "", **options}), 9)
        services = [service for group in groups for service in group]
        assert [bool(service.env["WORKER_TOKEN"]) for service in services] == [given] * 3


def test_a_containers_limit_and_strict_overcommit_are_named() -> None:
    assert "2.0 of 32.0 GiB" in said({}, Machine(32 * GIB, GIB, GIB, limit_bytes=2 * GIB))
    assert "overcommit" in said({}, Machine(32 * GIB, GIB, GIB, overcommit=2))


def test_the_summary_has_a_line_for_each_choice_and_stays_short() -> None:
    lines = summed_up({"MODEL_IDLE_TIMEOUT": "60", "METRICS_COLLECTION_INTERVAL": "60"}, SMALL)
    assert len(lines) <= 20
    text = "\n".join(lines)
    assert "profile          small" in text
    assert "LLAMA_CTX=1536: 1,024 tokens of input" in text
    assert "MODEL_IDLE_TIMEOUT=60: it is set; the profile has 1800" in text


def test_an_old_setting_is_mentioned_in_one_line_with_what_replaces_it() -> None:
    lines = summed_up({"MODEL_IDLE_TIMEOUT": "60", "MODEL_UNLOAD_ENABLED": "0"}, ROOMY)
    (line,) = (line for line in lines if line.startswith("old setting"))
    assert "MODEL_UNLOAD_ENABLED=0 is deprecated: write MODEL_IDLE_TIMEOUT=-1" in line
    assert any("idle unloading   off" in line for line in lines)
    assert any("MODEL_IDLE_TIMEOUT=-1: a loaded model keeps its memory" in line for line in lines)


def test_services_are_given_what_the_summary_says() -> None:
    settings = StackSettings.read({"MODEL_IDLE_TIMEOUT": "60"})
    _, workers = stages(settings, 9, choose(SMALL, settings.values))
    for worker in workers:
        assert (worker.env["LLAMA_CTX"], worker.env["MODEL_IDLE_TIMEOUT"]) == ("1536", "60")
