"""`serve --key-if-none`: a server that others may reach never starts without a key."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.running_stack import free_port

ROOT = Path(__file__).resolve().parents[3]
WITHIN_S = 120


def lines(process: "subprocess.Popen[str]", until: str) -> list[str]:
    found = []
    assert process.stdout is not None
    for line in process.stdout:
        found.append(line.strip())
        if until in line:
            return found
    raise AssertionError(found)


@pytest.mark.timeout(WITHIN_S)
def test_a_key_is_made_printed_and_required_where_none_is_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("API_KEYS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    port = free_port()
    command = [sys.executable, "-m", "cli", "serve", "--host", "0.0.0.0", "--port", str(port)]
    with subprocess.Popen(
        [*command, "--key-if-none"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            (said,) = [line for line in lines(process, "ready in") if "API key  " in line]
            models = f"http://127.0.0.1:{port}/v1/models"
            assert httpx.get(models).status_code == httpx.codes.UNAUTHORIZED
            key = {"Authorization": f"Bearer {said.split('API key')[1].split()[0]}"}
            assert httpx.get(models, headers=key).status_code == httpx.codes.OK
        finally:
            process.terminate()
