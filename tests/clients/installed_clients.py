"""Installs other people's clients once, into a cache folder of this user, for their tests.

They are many and heavy, so they are no part of the development environment. Without the registry,
or without Node.js, their tests are skipped, with the reason.
"""

import functools
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from worker_runtime.settings import cache_folder

PYTHON_CLIENTS = (
    "litellm",
    "huggingface_hub",
    "llama-index-llms-openai-like",
    "langchain-mistralai",
    "openai-agents",
    "outlines[openai]",
)
JAVASCRIPT_CLIENTS = ("ai@6", "@ai-sdk/openai@3", "@openai/agents", "zod@4", "@openai/codex")
INSTALL_WITHIN_S = 600
DONE = "installed"


@functools.cache
def python_with_clients() -> Path:
    """The interpreter of a virtual environment with `PYTHON_CLIENTS`."""
    folder = _folder("python", PYTHON_CLIENTS)
    scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")
    python = scripts / ("python.exe" if sys.platform == "win32" else "python")
    uv = [sys.executable, "-m", "uv"]
    _install(
        folder,
        [*uv, "venv", "--quiet", "--clear", str(folder)],
        [*uv, "pip", "install", "--quiet", "--python", str(python), *PYTHON_CLIENTS],
    )
    return python


@functools.cache
def node_with_clients() -> tuple[str, Path]:
    """Node.js, and a folder with `JAVASCRIPT_CLIENTS`."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("there is no Node.js here")
    folder = _folder("javascript", JAVASCRIPT_CLIENTS)
    options = ["--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]
    _install(folder, [npm, "install", *options, *JAVASCRIPT_CLIENTS])
    return node, folder


def version_of_package(name: str) -> str:
    """The version of one of `JAVASCRIPT_CLIENTS`."""
    _, folder = node_with_clients()
    about = json.loads((folder / "node_modules" / name / "package.json").read_bytes())
    return str(about["version"])


def _folder(kind: str, packages: tuple[str, ...]) -> Path:
    key = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:12]
    return cache_folder() / "test-clients" / f"{kind}-{key}"


def _install(folder: Path, *commands: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_suffix(".lock")):
        if (folder / DONE).exists():
            return
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WITHIN_S)
            if done.returncode:
                pytest.skip(f"the clients cannot be installed: {done.stderr[-300:]}")
        (folder / DONE).touch()
