"""`run.py wheel`: what it builds serves outside of any checkout, with its own models."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from bootstrap.settings import Settings
from bootstrap.wheel import build, requiring
from tests.running_stack import free_port

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 120


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's contents, as pip puts them into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = build(Settings(psutil.Process().environ(), "auto"), folder)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


@pytest.fixture(scope="module")
def port(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    environment = {
        **psutil.Process().environ(),
        "PYTHONPATH": str(installed),
        "XDG_CACHE_HOME": str(elsewhere),
    }
    command = [sys.executable, "-m", "cli", "serve", "--port", str(port)]
    with subprocess.Popen(
        command, cwd=elsewhere, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if "ready in" in line:
                    break
            else:
                raise AssertionError(said)
            yield port
        finally:
            process.terminate()
            process.communicate()


def test_the_wheel_holds_no_caches_and_no_tests(installed: Path) -> None:
    names = [path.relative_to(installed).as_posix() for path in installed.rglob("*")]
    assert "embed_worker/built_in/all-MiniLM-L6-v2/model.safetensors" in names
    assert "embed_worker/prepared/all-MiniLM-L6-v2/model.xml" in names
    assert "chat_worker/built_in/qwen2-y26hkx-guide.gguf" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]


@pytest.mark.timeout(READY_WITHIN_S + 60)
def test_it_serves_both_built_in_models_from_its_own_files(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=READY_WITHIN_S) as client:
        vector = client.post("/v1/embeddings", json={"input": "x"}).json()["data"][0]["embedding"]
        assert len(vector) == 384
        messages = [{"role": "user", "content": "How do I unload a model?"}]
        reply = client.post("/v1/chat/completions", json={"messages": messages}).json()
        assert reply["choices"][0]["message"]["content"]


def test_the_wheel_requires_what_a_server_needs_but_neither_a_compiler_nor_torch() -> None:
    required = requiring((ROOT / "pyproject.toml").read_text("utf-8")).split("[project.optional")[0]
    assert all(f'"{name}' in required for name in ("fastapi", "openvino", "httpx"))
    assert not any(name in required for name in ("llama-cpp-python", "torch", "transformers"))
