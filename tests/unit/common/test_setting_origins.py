"""The settings in force are shown with their origins, and secrets never."""

from pathlib import Path

import pytest

from chat_worker.settings import ChatSettings
from common.setting_origins import changed_line, shown_settings
from gateway.settings import GatewaySettings


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("GATEWAY_PORT", "API_KEYS", "WORKER_TOKEN", "LOG_LEVEL", "LLAMA_CTX"):
        monkeypatch.delenv(name, raising=False)


def test_each_setting_says_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("canary-1")
    (tmp_path / ".env").write_text("GATEWAY_PORT=8123\nLOG_LEVEL=DEBUG\nWORKER_TOKEN_FILE=token\n")
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    monkeypatch.setenv("API_KEYS", "canary-2")
    monkeypatch.setenv("RATE_LIMIT_STORAGE", "memory://")
    found = shown_settings(GatewaySettings())
    assert found["GATEWAY_PORT"] == (8123, ".env")
    assert found["LOG_LEVEL"] == ("WARNING", "environment")
    assert found["WORKER_TOKEN"] == ("***", "file")
    assert found["API_KEYS"] == ("***", "environment")
    assert found["RATE_LIMIT_STORAGE"] == ("***", "environment")
    assert found["GATEWAY_HOST"] == ("127.0.0.1", "default")
    assert found["API_KEYS_FILE"] == (None, "default")
    line = changed_line(GatewaySettings())
    assert "GATEWAY_PORT=8123 (.env)" in line
    assert "GATEWAY_HOST" not in line
    assert "canary" not in line + str(found)


def test_what_was_chosen_for_the_machine_is_told_from_what_was_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As `serve` passes it on.
    monkeypatch.setenv("LLAMA_CTX", "4096")
    monkeypatch.setenv("MODEL_IDLE_TIMEOUT", "60")
    monkeypatch.setenv("PROFILE", "off")
    monkeypatch.setenv("PROFILE_CHOICES", "LLAMA_CTX")
    found = shown_settings(ChatSettings())
    assert found["LLAMA_CTX"] == (4096, "profile")
    assert found["MODEL_IDLE_TIMEOUT"].origin == "environment"


def test_a_value_cannot_imitate_another_line_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIN_MODEL_ID", "a\n2026 ERROR b" + "x" * 5000)
    line = changed_line(GatewaySettings())
    assert "\n" not in line
    assert len(line) < 1000
