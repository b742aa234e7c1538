"""Models whose library is not installed: they are listed with the command that installs it."""

from pathlib import Path

import pytest

from chat_worker.discovery import ChatModelScan
from chat_worker.places import GUIDE_FOLDER, GUIDE_ID
from chat_worker.settings import ChatSettings
from common.errors import BackendLoadFailed
from embed_worker.discovery import BUILT_IN_ID, EmbedModelScan, built_in_folder
from embed_worker.settings import EmbedSettings
from tests.unit.worker_runtime.fakes import FakeClock
from worker_runtime.catalog import Catalog, ModelEntry
from worker_runtime.libraries import OF_BACKENDS, Libraries, install_command

GONE = "no_such_module"


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for backend in ("transformers", "sentence-transformers", "cross-encoder"):
        extra = OF_BACKENDS[backend].extra
        monkeypatch.setitem(OF_BACKENDS, backend, Libraries((GONE,), extra))


def chat_models(**chosen: object) -> dict[str, ModelEntry]:
    scan = ChatModelScan(ChatSettings(_env_file=None, **chosen))  # type: ignore[arg-type]
    return {entry.id: entry for entry in scan().entries}


@pytest.mark.usefixtures("without_torch")
def test_a_model_that_needs_torch_is_refused_with_the_command_that_installs_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine").symlink_to(GUIDE_FOLDER / GUIDE_ID)
    settings = ChatSettings(_env_file=None, models_dir=tmp_path)
    scan = ChatModelScan(settings)
    catalog = Catalog(scan, ttl_s=60, clock=FakeClock())
    catalog.accept(scan())
    with pytest.raises(BackendLoadFailed) as caught:
        catalog.resolve("mine")
    assert GONE in str(caught.value)
    assert "python3 run.py setup transformers" in caught.value.suggestions[0]
    assert caught.value.metadata["cause"] == "library"


def test_the_guide_is_served_by_whichever_library_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert chat_models(models_dir=tmp_path)[GUIDE_ID].backend == "llama.cpp"
    monkeypatch.setitem(OF_BACKENDS, "llama.cpp", Libraries((GONE,), "llama"))
    guide = chat_models(models_dir=tmp_path)[GUIDE_ID]
    assert (guide.backend, guide.broken) == ("transformers", "")


@pytest.mark.usefixtures("without_torch")
def test_without_torch_the_built_in_embedding_model_is_served_and_others_say_what_they_need(
    tmp_path: Path,
) -> None:
    built_in = built_in_folder()
    assert built_in is not None
    other = tmp_path / "other"
    other.mkdir()
    for file in built_in.iterdir():
        (other / file.name).symlink_to(file)
    (other / "note.json").write_text("{}")
    settings = EmbedSettings(_env_file=None, models_dir=tmp_path, device="cpu")
    found = {entry.id: entry for entry in EmbedModelScan(settings)().entries}
    assert not found[BUILT_IN_ID].broken
    assert GONE in found["other"].broken
    assert found["other"].remedy == install_command("embed")
