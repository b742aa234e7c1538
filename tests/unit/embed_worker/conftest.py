"""What several tests of the encoders share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def converted_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models converted for OpenVINO are kept: each is converted once for all tests."""
    return tmp_path_factory.mktemp("converted")
