"""Tiny random-weight models, made once per session, for tests that need a real backend."""

from pathlib import Path

import pytest

from benchmarks.make_qwen_shape import TINY, write_gguf, write_safetensors


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_gguf(path, TINY, seed=1)
    return path


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_safetensors(folder, TINY, seed=1)
    return folder
