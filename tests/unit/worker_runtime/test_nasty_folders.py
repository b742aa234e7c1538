"""Both workers' scans of a folder with everything in it that is no model, or pretends to be one."""

import json
import os
import stat
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from chat_worker.discovery import ChatModelScan as ChatScan
from chat_worker.pipe_messages import spec_decoder as chat_spec
from chat_worker.places import GUIDE_ID
from chat_worker.settings import ChatSettings
from embed_worker.discovery import BUILT_IN_ID
from embed_worker.discovery import EmbedModelScan as EmbedScan
from embed_worker.pipe_messages import spec_decoder as embed_spec
from embed_worker.settings import EmbedSettings
from tests import nasty_entries
from tests.made_models import (
    gguf,
    lying,
    write_chat_folder,
    write_embedding_folder,
)
from tests.nasty_entries import NOT_UTF8, posix_only
from worker_runtime.catalog import ModelEntry
from worker_runtime.lifecycle.calibration import Calibration
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.lifecycle.snapshot import Counters, ModelSnapshot, ModelState
from worker_runtime.memory.need import Need
from worker_runtime.memory.probe import ProcessMemory
from worker_runtime.model_files import folder_listing
from worker_runtime.model_files.foreign_files import open_regular
from worker_runtime.model_files.odd_paths import library_path, path_of, path_text, printable
from worker_runtime.rpc.status_messages import model_message

T = TypeVar("T")
ROOT = Path(__file__).parents[3]

Found = dict[str, ModelEntry]


def chat_scan(root: Path) -> ChatScan:
    return ChatScan(ChatSettings(_env_file=None, models_dir=root, model_path=root / "none"))


def chats(root: Path) -> Found:
    return {entry.id: entry for entry in chat_scan(root)().entries}


def embedders(root: Path) -> Found:
    scan = EmbedScan(EmbedSettings(_env_file=None, models_dir=root))
    return {entry.id: entry for entry in scan().entries}


def check_reasons(found: Found, expected: dict[str, str]) -> None:
    for model, reason in expected.items():
        if reason:
            assert reason in found[model].broken, model
        else:
            assert not found[model].broken, model
    for entry in found.values():
        # What cannot be sent would end the worker.
        shown = ModelSnapshot(entry, False, ModelState.FAILED, Counters(), failure=entry.broken)
        assert model_message(shown).SerializeToString()


@posix_only
def test_each_entry_is_listed_with_its_reason_and_hides_no_other(tmp_path: Path) -> None:
    expected = nasty_entries.write(tmp_path)
    (tmp_path / "embedding").mkdir()
    of_embedding = nasty_entries.write(tmp_path / "embedding")
    (tmp_path / "good.gguf").write_bytes(gguf())
    (tmp_path / "embedding" / "good.gguf").write_bytes(gguf())
    found = chats(tmp_path)
    check_reasons(found, expected | {"good": "", GUIDE_ID: ""})
    assert "lost+found" not in found
    of_embedding["huge"] = ""  # layers cost it nothing: only weights are counted
    check_reasons(embedders(tmp_path), of_embedding | {"good": "", BUILT_IN_ID: ""})


PROGRAM = """
import json, sys
from pathlib import Path
from tests.unit.worker_runtime.test_nasty_folders import chats, embedders
root = Path(sys.argv[1])
print(json.dumps([{e.id: e.broken for e in find(root).values()} for find in (chats, embedders)]))
"""


@posix_only
def test_what_may_not_be_read_is_broken_and_its_neighbours_are_not(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "embedding"):
        folder.mkdir(exist_ok=True)
        nasty_entries.write(folder)
        (folder / "good.gguf").write_bytes(gguf())
    write_embedding_folder(tmp_path / "embedding" / "half")
    (tmp_path / "embedding" / "half" / "config.json").chmod(0)
    write_chat_folder(tmp_path / "half")
    (tmp_path / "half" / "model.safetensors").chmod(0)
    done = subprocess.run(
        [sys.executable, "tests/plain_rights.py", sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for found in json.loads(done.stdout):
        assert found["good"] == ""
        for model in ("locked", "half"):
            assert "may not be read" in found[model], model
        assert "lost+found" not in found


@posix_only
def test_a_models_folder_that_may_not_be_read_or_is_a_file_leaves_the_built_in_models(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    assert {GUIDE_ID, "file"} == set(chats(tmp_path / "file"))
    assert BUILT_IN_ID in embedders(tmp_path / "file")
    (tmp_path / "loop").symlink_to("loop")
    found = chats(tmp_path / "loop")
    assert "could not be read" in found["loop"].broken
    assert not found[GUIDE_ID].broken


@posix_only
def test_a_name_that_is_no_text_becomes_a_printable_id_and_its_path_stays(tmp_path: Path) -> None:
    (tmp_path / "embedding").mkdir()
    for folder in (tmp_path, tmp_path / "embedding"):
        (folder / NOT_UTF8).write_bytes(gguf())
    for found, decoder in ((chats(tmp_path), chat_spec), (embedders(tmp_path), embed_spec)):
        entry = found["not-_xff-utf8"]
        spec = decoder.decode(entry.load_spec)
        assert spec.path.encode()
        assert path_of(spec.path).read_bytes() == gguf()
        assert path_of(spec.path) == entry.path


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain é 東京 🙂", "plain é 東京 🙂"),
        ("e\N{COMBINING ACUTE ACCENT}", "é"),
        ("line\nend\x1b[31m", "line_u000aend_u001b[31m"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}fugg", "_u202efugg"),
        ("\udc80\udcff", "_x80_xff"),
        ("\ud800", "_ud800"),
    ],
)
def test_names_are_shown_without_what_is_not_printable(name: str, shown: str) -> None:
    assert printable(name) == shown


@posix_only
def test_a_folder_whose_name_is_no_text_is_entered_for_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "odd\udcff"
    folder.mkdir()
    (folder / "inside").touch()
    assert library_path(path_text(tmp_path)) == tmp_path
    assert (library_path(path_text(folder)) / "inside").is_file()
    assert str(library_path(path_text(folder))) == "."


@posix_only
def test_what_is_learnt_of_a_model_with_an_odd_path_is_kept(tmp_path: Path) -> None:
    (tmp_path / NOT_UTF8).write_bytes(gguf())
    entry = chats(tmp_path)["not-_xff-utf8"]
    option = LoadOption(entry, Need(weights=1 << 30))
    Calibration(tmp_path / "memory.json").note(option, ProcessMemory(3 << 29))
    (again,) = Calibration(tmp_path / "memory.json").corrected(lambda _: [option])(entry)
    assert again.need.correction == 1 << 29


def test_models_of_one_name_in_different_folders_get_ids_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "qwen").mkdir()
    (tmp_path / "same.gguf").write_bytes(gguf())
    (tmp_path / "qwen" / "same.gguf").write_bytes(lying(context_length=99))
    write_chat_folder(tmp_path / "guide" / "same")
    found = chats(tmp_path)
    ids = {"same", f"{tmp_path.name}/same", "guide/same", GUIDE_ID}
    assert set(found) == ids
    assert found["same"].path == tmp_path / "qwen" / "same.gguf"
    assert chat_spec.decode(found["guide/same"].load_spec).model_id == "guide/same"
    assert set(chats(tmp_path)) == ids


def test_of_a_file_and_a_folder_of_one_name_that_can_be_used_is_taken(tmp_path: Path) -> None:
    (tmp_path / "one.gguf").write_bytes(b"GGUF nonsense")
    write_chat_folder(tmp_path / "one")
    assert chats(tmp_path)["one"].backend == "transformers"


def test_a_folder_may_be_named_like_a_file(tmp_path: Path) -> None:
    write_chat_folder(tmp_path / "one.gguf")
    write_embedding_folder(tmp_path / "two.gguf")
    found = [chats(tmp_path)["one.gguf"], embedders(tmp_path)["two.gguf"]]
    assert [(entry.broken, entry.backend == "llama.cpp") for entry in found] == [("", False)] * 2


def test_renamed_models_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "qwen").mkdir()
    for folder in (tmp_path, tmp_path / "qwen"):
        (folder / "same.gguf").write_bytes(gguf())
    scan = chat_scan(tmp_path)
    with caplog.at_level("INFO"):
        for _ in range(3):
            scan()
    told = [line for line in caplog.messages if "gets the id" in line]
    assert len(told) == 1
    assert f"{tmp_path.name}/same" in told[0]


def test_names_in_two_normal_forms_are_two_models(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        (tmp_path / f"{unicodedata.normalize(form, 'modèle')}.gguf").write_bytes(gguf())
    if len(os.listdir(tmp_path)) < 2:
        pytest.skip("this file system knows one form only")
    assert {"modèle", f"{tmp_path.name}/modèle"} <= set(chats(tmp_path))


@posix_only
def test_the_models_beside_one_are_found_whatever_lies_there(tmp_path: Path) -> None:
    nasty_entries.write(tmp_path)
    (tmp_path / "good.gguf").write_bytes(gguf())
    (tmp_path / "smaller.gguf").write_bytes(gguf())
    scan = chat_scan(tmp_path)
    entry = next(e for e in scan().entries if e.id == "good")
    near = {other.id for other in scan.near(entry)}
    assert {"smaller", "not-_xff-utf8", GUIDE_ID} <= near
    assert "good" not in near


def test_a_model_that_became_readable_is_read_though_its_time_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(gguf())
    scan = chat_scan(tmp_path)
    times = os.stat(tmp_path / "a.gguf")
    scan()
    os.rename(tmp_path / "a.gguf", tmp_path / "away")
    assert "a" not in {entry.id for entry in scan().entries}
    os.rename(tmp_path / "away", tmp_path / "a.gguf")
    assert os.stat(tmp_path / "a.gguf").st_mtime_ns == times.st_mtime_ns
    assert {entry.id: entry.broken for entry in scan().entries}["a"] == ""


def test_each_folder_is_listed_once_and_each_file_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "embedding").mkdir()
    for number in range(500):
        for folder in (tmp_path, tmp_path / "embedding"):
            (folder / f"{number}.gguf").write_bytes(gguf())
    listed: Counter[Path] = Counter()
    opened: Counter[Path] = Counter()
    monkeypatch.setattr(folder_listing, "list_folder", _counted(folder_listing.list_folder, listed))
    monkeypatch.setattr(
        "worker_runtime.model_files.gguf.open_regular", _counted(open_regular, opened)
    )
    for find in (chats, embedders):
        listed.clear()
        opened.clear()
        assert len(find(tmp_path)) > 500
        assert max(listed.values()) == 1
        assert max(opened.values()) == 1


def _counted(function: Callable[[Path], T], counts: Counter[Path]) -> Callable[[Path], T]:
    def counting(path: Path) -> T:
        counts[path] += 1
        return function(path)

    return counting


@posix_only
def test_a_link_that_goes_while_it_is_followed_harms_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good.gguf").write_bytes(gguf())
    (tmp_path / "link.gguf").symlink_to("good.gguf")

    def gone(path: object) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "readlink", gone)
    assert not chats(tmp_path)["good"].broken


@pytest.fixture(autouse=True)
def removable(tmp_path: Path) -> Iterator[None]:
    """pytest removes what it may list."""
    yield
    for folder, names, _ in os.walk(tmp_path):
        for name in names:
            os.chmod(os.path.join(folder, name), stat.S_IRWXU)


def test_both_scans_tell_what_is_wrong_with_models_toml(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text("[models")
    settings = EmbedSettings(_env_file=None, models_dir=tmp_path)
    for scan in (chat_scan(tmp_path), EmbedScan(settings)):
        assert "models.toml" in scan().problem
