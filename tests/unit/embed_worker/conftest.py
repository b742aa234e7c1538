"""What several tests of the encoders share."""

from pathlib import Path

import pytest

from benchmarks.make_minilm_gguf import write
from embed_worker.discovery import built_in_folder


@pytest.fixture(scope="session")
def converted_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models converted for OpenVINO are kept: each is converted once for all tests."""
    return tmp_path_factory.mktemp("converted")


@pytest.fixture(scope="session")
def built_in() -> Path:
    """Folder of all-MiniLM-L6-v2."""
    folder = built_in_folder()
    assert folder is not None
    return folder


@pytest.fixture(scope="session")
def minilm_gguf(built_in: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a GGUF file, in the embedding folder of a models folder."""
    path = tmp_path_factory.mktemp("models") / "embedding" / "minilm.gguf"
    write(built_in, path)
    return path
