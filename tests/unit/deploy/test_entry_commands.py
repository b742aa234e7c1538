"""The images' entry commands and probes, run for real with the compose file's environment."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PORTS = {
    "gateway": "GATEWAY_PORT",
    "chat_worker": "CHAT_WORKER_PORT",
    "embed_worker": "EMBED_WORKER_PORT",
}
WITHIN_S = 60
GIVEN = {"API_KEYS": "test-key", "WORKER_TOKEN": "test-token"}


def environment(service: str, port: int) -> dict[str, str]:
    """What compose gives to `service`, listening on this machine only."""
    compose: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    wanted: Mapping[str, str | None] = compose["services"][service]["environment"]
    own = {name: str(value) for name, value in wanted.items() if value and "${" not in str(value)}
    # The folders of the images are not here.
    own = {name: value for name, value in own.items() if not value.startswith("/app/")}
    own |= {name: value for name, value in GIVEN.items() if name in wanted}
    own |= {PORTS[service]: str(port), "GATEWAY_HOST": "127.0.0.1", "WORKER_HOST": "127.0.0.1"}
    own["MODELS_DIR"] = str(ROOT / "models")
    return {**os.environ, **own}  # noqa: TID251 - the test is the outermost caller


def probe(service: str, port: int) -> int:
    kind = "gateway" if service == "gateway" else "worker"
    command = [sys.executable, "-S", "-m", "cli.probe", kind, "--port", str(port)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode


@pytest.fixture(params=list(PORTS))
def started(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[str, int, subprocess.Popen[bytes], Path]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", request.param],
            cwd=ROOT,
            env=environment(request.param, port),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    try:
        yield request.param, port, process, log
    finally:
        process.kill()
        process.wait(WITHIN_S)


def test_a_service_starts_alone_answers_its_probe_and_ends_when_asked(
    started: tuple[str, int, subprocess.Popen[bytes], Path],
) -> None:
    service, port, process, log = started
    deadline = time.monotonic() + WITHIN_S
    while probe(service, port) != 0:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
    process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
    assert process.wait(WITHIN_S) == 0, log.read_text()
    assert probe(service, port) != 0


@pytest.mark.parametrize(
    ("service", "missing"),
    [
        ("gateway", "API_KEYS"),
        ("gateway", "WORKER_TRUSTED_NETWORK"),
        ("chat_worker", "WORKER_TOKEN"),
        ("chat_worker", "WORKER_TRUSTED_NETWORK"),
    ],
)
def test_no_service_meets_others_without_its_secret_and_trust(service: str, missing: str) -> None:
    env = environment(service, 0) | {"GATEWAY_HOST": "0.0.0.0", "WORKER_HOST": "0.0.0.0"}
    env[missing] = ""
    refused = subprocess.run(
        [sys.executable, "-m", service],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert refused.returncode != 0
    assert missing in refused.stderr + refused.stdout
