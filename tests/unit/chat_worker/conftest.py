"""Tiny random-weight models, made once per session, for tests that need a real backend."""

from pathlib import Path

import pytest

from benchmarks.make_qwen_shape import TINY, write_gguf, write_safetensors
from chat_worker.backend import Tokenizer
from chat_worker.backends.llama_cpp.load import load
from chat_worker.pipe_messages import LoadSpec

GUIDE = Path(__file__).parents[3] / "models/guide/qwen2-y26hkx-guide.gguf"


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_gguf(path, TINY, seed=1)
    return path


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """The built-in model's."""
    spec = LoadSpec(backend="llama.cpp", path=str(GUIDE), n_ctx=256, n_parallel=1)
    return load(spec, lambda _: None).tokenizer


@pytest.fixture(scope="session")
def converted_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models are converted for OpenVINO, once for all tests."""
    return tmp_path_factory.mktemp("converted")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_safetensors(folder, TINY, seed=1)
    return folder
