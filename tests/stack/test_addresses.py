"""`y26hkx serve` over HTTPS and on a Unix socket: what it prints, and the commands that find it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.doctor import _port
from cli.probe import main as probe
from cli.settings import StackSettings
from tests.certificates import made_certificate, needs_openssl
from tests.running_stack import ROOT, free_port, wait_until

no_windows = pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets are not for Windows")


@pytest.fixture(
    params=[pytest.param("https", marks=needs_openssl), pytest.param("unix", marks=no_windows)]
)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    port = {"GATEWAY_PORT": str(free_port())}
    if request.param == "unix":
        return port | {"GATEWAY_SOCKET": str(tmp_path / "gateway.sock")}
    made = made_certificate(tmp_path)
    return port | {"GATEWAY_TLS_CERT": str(made.chain), "GATEWAY_TLS_KEY": str(made.key)}


@pytest.fixture
def log(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The output of a gateway without workers, which answers already."""
    alone = {"CHAT_WORKERS": "", "EMBED_WORKERS": "", "MEMORY_LEARNT_DIR": str(tmp_path)}
    alone["PYTHONPATH"] = str(ROOT)
    for name, value in (settings | alone).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    found = tmp_path / "log"
    with found.open("wb") as out:
        serving = subprocess.Popen(
            [sys.executable, "-m", "cli", "serve"],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        ask = ["gateway", "--port", settings["GATEWAY_PORT"]]
        wait_until((probe(ask) == 0 for _ in iter(int, 1)), 60, "the gateway answers")
        yield found
    finally:
        serving.terminate()
        serving.wait(30)


def run(command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cli", command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_all_commands_find_it(log: Path, settings: dict[str, str]) -> None:
    socket = settings.get("GATEWAY_SOCKET")
    at = f"unix:{socket}" if socket else f"https://127.0.0.1:{settings['GATEWAY_PORT']}"
    said_by_doctor = f"a server already answers at {at}"
    found = (risk.message for _ in iter(int, 1) for risk in _port(StackSettings.read({})))
    # It asks for a second, in which a busy machine may not answer.
    wait_until((message == said_by_doctor for message in found), 60, said_by_doctor)
    second = run("serve")
    assert second.returncode == 2
    assert f"a server already answers at {at}" in second.stderr
    assert run("ps").returncode == 0
    assert f"stopped the server at {at}" in run("stop").stdout
    said = log.read_text()
    assert (socket or f"{at}/v1") in said
    assert "Traceback" not in said
