"""Which folders a server uses where no setting names them."""

import sys
from pathlib import Path

import pytest

from common import folders
from common.folders import cache_folder_of, models_folder_of


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a server that is not in a checkout."""
    monkeypatch.setattr(folders, "CHECKOUT", tmp_path / "run.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def test_one_variable_moves_everything(installed: Path) -> None:
    environment = {"Y26HKX_HOME": "/data", "XDG_CACHE_HOME": "/x", "LOCALAPPDATA": "/x"}
    assert models_folder_of(environment) == Path("/data/models")
    assert cache_folder_of(environment) == Path("/data/cache")


def test_a_checkout_and_a_folder_with_models_keep_them_where_they_are(installed: Path) -> None:
    (installed / "run.py").touch()
    assert models_folder_of({}) == Path("models")
    (installed / "run.py").unlink()
    (installed / "models").mkdir()
    assert models_folder_of({}) == Path("models")


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_an_installed_server_finds_its_models_from_anywhere(
    installed: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    environment = {"XDG_DATA_HOME": str(installed / "data"), "LOCALAPPDATA": str(installed / "l")}
    found = models_folder_of(environment)
    assert found.is_absolute()
    assert found.parts[-2:] == ("y26hkx", "models")
    assert found.is_relative_to(installed)
