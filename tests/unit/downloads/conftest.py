"""A hub, and settings whose models folder is empty."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from downloads.settings import DownloadSettings
from tests.stand_in_hub import StandInHub, stand_in_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    with stand_in_hub() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def settings(hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DownloadSettings:
    models = tmp_path / "models"
    models.mkdir()
    # The scans' own settings read it, too.
    monkeypatch.setenv("MODELS_DIR", str(models))
    return DownloadSettings(_env_file=None)
