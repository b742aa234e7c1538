"""Deleting models: what goes, and what is never touched."""

import sys
from pathlib import Path

import pytest

from chat_worker.places import GUIDE_FOLDER, GUIDE_ID
from common.errors import InvalidRequest, ModelNotFound
from downloads.remove import remove
from downloads.settings import DownloadSettings
from tests.made_models import gguf, write_embedding_folder
from worker_runtime.model_files.default_model import default_model, record_default


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DownloadSettings:
    models = tmp_path / "models"
    (models / "embedding").mkdir(parents=True)
    monkeypatch.setenv("MODELS_DIR", str(models))
    return DownloadSettings(_env_file=None)


def left(settings: DownloadSettings) -> list[str]:
    root = settings.models_dir
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def test_a_file_goes_with_all_its_parts_and_so_does_its_empty_folder(
    settings: DownloadSettings,
) -> None:
    folder = settings.models_dir / "own"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"m-0000{number}-of-00002.gguf").write_bytes(gguf())
    (settings.models_dir / "other.gguf").write_bytes(gguf())
    record_default(settings.models_dir, "m")
    removed = remove("M", settings)
    assert removed.model == "m"
    assert removed.freed_bytes == 2 * len(gguf())
    assert left(settings) == ["embedding", "other.gguf"]
    assert default_model(settings.models_dir) == ""


def test_a_folder_goes_whole_and_the_folder_for_embeddings_stays(
    settings: DownloadSettings,
) -> None:
    write_embedding_folder(settings.models_dir / "embedding" / "minilm")
    remove("minilm", settings)
    assert left(settings) == ["embedding"]


def test_a_model_in_the_hubs_cache_goes_with_its_blobs(settings: DownloadSettings) -> None:
    cached = settings.models_dir / "models--org--minilm"
    write_embedding_folder(cached / "snapshots" / "abc")
    (cached / "blobs").mkdir()
    (cached / "blobs" / "x").write_bytes(b"weights")
    remove("org/minilm", settings)
    assert left(settings) == ["embedding"]


def test_a_broken_model_can_be_deleted(settings: DownloadSettings) -> None:
    (settings.models_dir / "broken.gguf").write_bytes(b"nothing")
    remove("broken", settings)
    assert left(settings) == ["embedding"]


def test_models_elsewhere_are_never_deleted(
    settings: DownloadSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere.gguf"
    elsewhere.write_bytes(gguf())
    monkeypatch.setenv("MODEL_PATH", str(elsewhere))
    for model in ("elsewhere", GUIDE_ID):
        with pytest.raises(InvalidRequest, match=r"not in the models folder|built in"):
            remove(model, settings)
    with pytest.raises(ModelNotFound):
        remove("../elsewhere", settings)
    assert elsewhere.exists()
    assert any(GUIDE_FOLDER.glob("*.gguf"))


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own there")
def test_of_a_link_only_the_link_goes(settings: DownloadSettings, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write_embedding_folder(outside / "minilm")
    (outside / "target.gguf").write_bytes(gguf())
    (settings.models_dir / "m.gguf").symlink_to(outside / "target.gguf")
    (settings.models_dir / "minilm").symlink_to(outside / "minilm")
    (settings.models_dir / "away").symlink_to(outside)
    remove("m", settings)
    remove("minilm", settings)
    assert (outside / "target.gguf").exists()
    assert (outside / "minilm" / "config.json").exists()
    # What is behind a link to a folder is not in the models folder.
    with pytest.raises(InvalidRequest):
        remove("away/minilm", settings)
    assert left(settings) == ["away", "embedding"]


def test_the_built_in_model_stays_where_the_models_folder_is_that_of_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = tmp_path / "models" / "guide"
    guide.mkdir(parents=True)
    (guide / f"{GUIDE_ID}.gguf").write_bytes(gguf())
    monkeypatch.setenv("MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setattr("chat_worker.places.GUIDE_FOLDER", guide)
    monkeypatch.setattr("downloads.remove.GUIDE_FOLDER", guide)
    with pytest.raises(InvalidRequest) as refused:
        remove(GUIDE_ID, DownloadSettings(_env_file=None))
    assert refused.value.param == "model"
    assert (guide / f"{GUIDE_ID}.gguf").exists()
