"""The stamp that makes a second start cheap."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from bootstrap import environment, llama_build
from bootstrap.environment import DEVELOPMENT, RUNTIME, Stamp
from bootstrap.settings import ROOT, Settings, SetupError, program

AUTO = Settings({}, "auto")


def test_a_new_package_of_ours_is_installed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Stamp.wanted(AUTO, RUNTIME)
    monkeypatch.setattr("bootstrap.environment._own_packages", lambda: b"['new*']")
    assert not there.covers(Stamp.wanted(AUTO, RUNTIME))


def test_an_environment_covers_what_it_was_made_for_and_less() -> None:
    development, runtime = Stamp.wanted(AUTO, DEVELOPMENT), Stamp.wanted(AUTO, RUNTIME)
    assert development.covers(runtime)
    assert development.covers(development)
    assert not runtime.covers(development)


@pytest.mark.parametrize("change", [{"lock": "other"}, {"root": "/moved"}, {"torch": "cuda"}])
def test_another_lock_place_or_torch_is_not_covered(change: dict[str, str]) -> None:
    there = Stamp.wanted(AUTO, RUNTIME)
    assert not dataclasses.replace(there, **change).covers(there)  # type: ignore[arg-type]


def test_a_build_of_llama_cpp_that_is_asked_for_replaces_another() -> None:
    portable = Stamp.wanted(Settings({}, "auto", "portable"), RUNTIME)
    native = dataclasses.replace(Stamp.wanted(AUTO, RUNTIME), llama="native")
    assert not native.covers(portable)
    assert portable.covers(portable)
    assert portable.covers(Stamp.wanted(AUTO, RUNTIME))


def test_a_stamp_is_read_as_it_was_written(tmp_path: Path) -> None:
    stamp = Stamp.wanted(AUTO, DEVELOPMENT)
    stamp.write(tmp_path / "stamp")
    assert Stamp.read(tmp_path / "stamp") == stamp


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"lock": 1'])
def test_a_broken_stamp_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "stamp").write_text(content)
    assert Stamp.read(tmp_path / "stamp") is None
    assert Stamp.read(tmp_path / "missing") is None


def test_a_second_start_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    python.parent.mkdir()
    python.touch()
    Stamp.wanted(AUTO, DEVELOPMENT).write(tmp_path / "stamp")

    def no_process(*_: object, **__: object) -> None:
        raise AssertionError("a second start must not run pip, uv or anything else")

    monkeypatch.setattr(environment, "VENV", tmp_path)
    monkeypatch.setattr(Stamp, "read", lambda: Stamp.wanted(AUTO, DEVELOPMENT))
    monkeypatch.setattr(subprocess, "run", no_process)
    monkeypatch.setattr(subprocess, "Popen", no_process)
    assert environment.ensure(AUTO, RUNTIME) == python


def test_on_another_processor_llama_cpp_is_tested_and_noted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = dataclasses.replace(Stamp.wanted(AUTO, DEVELOPMENT), processor="", llama="native")
    tested: list[object] = []

    def test(*asked: object, thorough: bool) -> object:
        tested.append(thorough)
        return asked[-1]

    python = program(tmp_path, "python")
    python.parent.mkdir()
    python.touch()
    written = tmp_path / "stamp"
    monkeypatch.setattr(environment, "VENV", tmp_path)
    monkeypatch.setattr(Stamp, "read", lambda: made)
    monkeypatch.setattr(Stamp, "write", lambda stamp: written.write_text(repr(stamp)))
    monkeypatch.setattr(llama_build, "test", test)
    environment.ensure(AUTO, RUNTIME)
    environment.ensure(AUTO, RUNTIME, test=True)
    assert tested == [False, True]
    wanted = dataclasses.replace(Stamp.wanted(AUTO, DEVELOPMENT), llama="native")
    assert written.read_text() == repr(wanted)


@pytest.mark.parametrize("name", ["Y26HKX_TORCH", "Y26HKX_LLAMA"])
def test_a_wrong_choice_of_a_build_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "gpu")
    with pytest.raises(SetupError, match=f"{name}=gpu"):
        Settings.read()


def test_help_needs_no_environment_and_only_the_standard_library() -> None:
    done = subprocess.run(
        # -S leaves site-packages out, so that anything not in the standard library fails.
        [sys.executable, "-S", "-E", "run.py", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "serve" in done.stdout


def test_every_module_of_the_bootstrap_loads_without_installed_packages() -> None:
    modules = [f"bootstrap.{path.stem}" for path in (ROOT / "bootstrap").glob("[a-z]*.py")]
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", f"import {', '.join(modules)}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_unknown_command_is_refused_with_the_list() -> None:
    done = subprocess.run(
        [sys.executable, "run.py", "sevre"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "serve" in done.stderr
