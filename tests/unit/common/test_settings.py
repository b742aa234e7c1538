"""What all services read alike: empty values, mistakes, and which addresses are this machine."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from chat_worker.settings import ChatSettings
from common.loopback import is_loopback
from common.settings import SharedSettings
from embed_worker.settings import EmbedSettings
from gateway.settings import GatewaySettings
from tests.running_stack import KEPT_VARIABLES

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.1.5", False),
        ("chat_worker", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local


@pytest.mark.parametrize(
    ("service", "variable", "value"),
    [
        ("gateway", "GATEWAY_PORT", "70000"),
        ("gateway", "LOG_LEVEL", "LOUD"),
        ("gateway", "RATE_LIMIT", "often"),
        ("gateway", "RATE_LIMIT_STORAGE", "tape://x"),
        ("gateway", "CHAT_WORKERS", "127.0.0.1"),
        ("gateway", "EMBED_WORKERS", "127.0.0.1:70000"),
        ("chat_worker", "LLAMA_CTX", "many"),
        ("embed_worker", "MAX_BATCH_SIZE", "0"),
        ("simple", "SIMPLE_PORT", "x"),
    ],
)
def test_a_wrong_setting_is_a_line_that_names_it_not_a_traceback(
    service: str, variable: str, value: str
) -> None:
    kept = {k: v for k, v in psutil.Process().environ().items() if k in KEPT_VARIABLES}
    ended = subprocess.run(
        [sys.executable, "-m", service],
        cwd=ROOT,
        env={**kept, variable: value},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert variable in line


@pytest.mark.parametrize("settings", [GatewaySettings, ChatSettings, EmbedSettings])
def test_log_levels_are_taken_in_any_case(
    settings: type[SharedSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "warning")
    assert settings(_env_file=None).log_level == "WARNING"
