"""A tiny random-weight GGUF, made once per session, for tests that need real llama.cpp."""

from pathlib import Path

import pytest

from benchmarks.make_qwen_shape import TINY, write_gguf


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_gguf(path, TINY, seed=1)
    return path
