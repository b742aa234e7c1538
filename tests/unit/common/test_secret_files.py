"""Secrets by file: what is read, what wins, and what a mistake says."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from chat_worker.settings import ChatSettings
from common.secret_files import secret_settings
from embed_worker.settings import EmbedSettings
from gateway.settings import GatewaySettings


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that WORKER_TOKEN_FILE names."""
    monkeypatch.delenv("WORKER_TOKEN", raising=False)
    path = tmp_path / "token"
    path.write_text("from a file\n", encoding="utf-8")
    monkeypatch.setenv("WORKER_TOKEN_FILE", str(path))
    return path


def gateway_token() -> str:
    return GatewaySettings(_env_file=None).worker_token.get_secret_value()


@pytest.mark.usefixtures("named")
def test_a_file_gives_gateway_and_workers_their_token(monkeypatch: pytest.MonkeyPatch) -> None:
    # As `WORKER_TOKEN=` in an .env file, or a compose file's default.
    monkeypatch.setenv("WORKER_TOKEN", "")
    assert gateway_token() == "from a file"
    assert EmbedSettings(_env_file=None).token.get_secret_value() == "from a file"


def test_an_env_file_may_name_the_file_too(named: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(f"WORKER_TOKEN_FILE={named}\n", encoding="utf-8")
    assert GatewaySettings(_env_file=other).worker_token.get_secret_value() == "from a file"


def test_a_file_may_hold_the_keys_of_other_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys"
    path.write_text('{"far": "k3y"}', encoding="utf-8")
    monkeypatch.setenv("REMOTE_API_KEYS_FILE", str(path))
    keys = ChatSettings(_env_file=None).remote_api_keys
    assert {name: key.get_secret_value() for name, key in keys.items()} == {"far": "k3y"}
    path.write_text("far: canary", encoding="utf-8")
    with pytest.raises(ValidationError, match="does not hold what REMOTE_API_KEYS") as wrong:
        ChatSettings(_env_file=None)
    assert "canary" not in str(wrong.value)


@pytest.mark.parametrize("content", [None, b" \n", b"\xff\xfe"])
def test_a_file_that_is_missing_empty_or_no_text_is_a_mistake_that_names_it(
    named: Path, content: bytes | None
) -> None:
    named.unlink() if content is None else named.write_bytes(content)
    with pytest.raises(ValidationError, match="WORKER_TOKEN_FILE") as wrong:
        gateway_token()
    assert str(named) in str(wrong.value)


@pytest.mark.usefixtures("named")
def test_one_secret_in_both_places_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_TOKEN", "canary")
    with pytest.raises(ValidationError, match="WORKER_TOKEN is set too") as wrong:
        gateway_token()
    assert "canary" not in str(wrong.value)


def test_each_secret_setting_can_be_in_a_file_and_the_digests_of_keys_stay_what_they_are() -> None:
    assert set(secret_settings(GatewaySettings)) == {
        "WORKER_TOKEN",
        "RATE_LIMIT_STORAGE",
        "MONITORING_API_KEY",
        "OTLP_HEADERS",
    }
    worker = {"WORKER_TOKEN", "OTLP_HEADERS"}
    assert set(secret_settings(ChatSettings)) == worker | {"REMOTE_API_KEYS"}
