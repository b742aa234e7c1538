"""Tests with a real container engine: `python3 run.py test --containers`."""

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.containers.composed import IMAGES, Composed, docker


def _engine_missing() -> str:
    """Why there is no engine; empty if there is one."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    for command in (["docker", "version"], ["docker", "compose", "version"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{' '.join(command)}: {done.stderr.strip().splitlines()[-1][:200]}"
    return ""


@pytest.fixture(scope="session")
def images() -> None:
    """All images, built from the cache where nothing has changed."""
    if reason := _engine_missing():
        pytest.skip(f"no container engine: {reason}")
    for name, file in IMAGES.items():
        docker("build", "--quiet", "--file", file, "--tag", name, ".")


@pytest.fixture(scope="module")
def composed(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    settings = {"CORS_ORIGINS": "https://app.example", "MODEL_ALIASES": "mine=all-MiniLM-L6-v2"}
    with Composed(tmp_path_factory.mktemp("composed"), **settings) as stack:
        yield stack
