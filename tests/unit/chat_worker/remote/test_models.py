"""The file of remote models: what becomes an entry, and what is listed as broken, and why."""

from pathlib import Path

import pytest

from chat_worker.discovery import ChatModelScan
from chat_worker.places import GUIDE_ID
from chat_worker.remote.models import remote_entries
from chat_worker.remote.spec import spec_decoder
from chat_worker.settings import ChatSettings
from worker_runtime.catalog import ModelEntry

GOOD = '[[models]]\nid = "far"\nbase_url = "http://host:8000/v1"\n'


def entries(folder: Path, text: str, **settings: object) -> dict[str, ModelEntry]:
    path = folder / "remote.toml"
    path.write_text(text)
    plain = {"remote_models": path, "_env_file": None}
    found = remote_entries(ChatSettings(**(plain | settings)))  # type: ignore[arg-type]
    return {entry.id: entry for entry in found}


def test_a_table_becomes_an_entry_without_weights(tmp_path: Path) -> None:
    entry = entries(tmp_path, GOOD + "context_length = 8192\n")["far"]
    assert (entry.backend, entry.size_bytes, entry.context_length) == ("remote", 0, 8192)
    assert not entry.broken
    assert spec_decoder.decode(entry.load_spec).model.model == "far"


def test_the_files_of_a_table_are_beside_it(tmp_path: Path) -> None:
    entry = entries(tmp_path, GOOD + 'api_key_file = "key"\n')["far"]
    assert spec_decoder.decode(entry.load_spec).model.api_key_file == str(tmp_path / "key")


def test_a_named_key_comes_from_the_settings_and_shows_nowhere(tmp_path: Path) -> None:
    keys = {"cloud": "sk-secret"}
    text = GOOD + 'api_key_name = "cloud"\n'
    entry = entries(tmp_path, text, remote_api_keys=keys)["far"]
    assert spec_decoder.decode(entry.load_spec).api_key == "sk-secret"
    assert "sk-secret" not in repr(entry)
    assert "cloud" in entries(tmp_path, text)["far"].broken


def test_any_change_of_a_table_changes_the_fingerprint(tmp_path: Path) -> None:
    texts = [GOOD, GOOD + 'model = "other"\n', GOOD.replace("8000", "8001"), GOOD + "timeout_s=9\n"]
    prints = {entries(tmp_path, text)["far"].fingerprint for text in texts}
    assert len(prints) == len(texts)
    assert entries(tmp_path, GOOD)["far"].fingerprint in prints


@pytest.mark.parametrize(
    "line",
    [
        'base_url = "ftp://host/v1"',
        'base_url = "http:///v1"',
        'base_url = "http://user:key@host/v1"',
        'base_url = "http://host/v1?key=x"',
        'base_url = "http://host:99999/v1"',
        'base_url = "http://host/v1"\ntimeout_s = 0',
        'base_url = "http://host/v1"\nmax_concurrent = 0',
        'base_url = "http://host/v1"\nfrobnicate = 1',
        'base_url = "http://host/v1"\napi_key_name = "a"\napi_key_file = "b"',
        'model = "x"',
    ],
)
def test_a_wrong_table_is_listed_as_broken_and_the_others_serve(tmp_path: Path, line: str) -> None:
    found = entries(tmp_path, GOOD + f'[[models]]\nid = "wrong"\n{line}\n')
    assert found["wrong"].broken
    assert not found["far"].broken


@pytest.mark.parametrize("text", ["[[models", "a = 1", "models = 1", "[[models]]\nid = 5\n"])
def test_a_file_that_makes_no_sense_is_listed_with_the_reason(tmp_path: Path, text: str) -> None:
    (entry,) = entries(tmp_path, text).values()
    assert entry.broken


def test_a_file_that_is_asked_for_and_missing_is_listed_with_the_reason(tmp_path: Path) -> None:
    settings = ChatSettings(remote_models=tmp_path / "none.toml", _env_file=None)
    (entry,) = remote_entries(settings)
    assert entry.id == "none"
    assert "none.toml" in entry.broken


def test_a_local_model_goes_before_a_remote_one_of_the_same_id(tmp_path: Path) -> None:
    path = tmp_path / "remote.toml"
    path.write_text(GOOD + GOOD.replace("far", GUIDE_ID))
    settings = ChatSettings(remote_models=path, models_dir=tmp_path, _env_file=None)
    backends = {entry.id: entry.backend for entry in ChatModelScan(settings)().entries}
    assert backends == {"far": "remote", GUIDE_ID: "llama.cpp"}


def test_a_remote_model_is_the_default_where_its_table_says_so(tmp_path: Path) -> None:
    (tmp_path / "remote.toml").write_text(
        GOOD + GOOD.replace('"far"', '"chosen"') + "default = true\n"
    )
    settings = ChatSettings(
        remote_models=tmp_path / "remote.toml", models_dir=tmp_path, _env_file=None
    )
    assert ChatModelScan(settings)().default_id == "chosen"
