"""run.py under watch: it asks the indexes that the user named, and nobody else."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from bootstrap.environment import RUNTIME, Stamp
from bootstrap.settings import ROOT, Settings, program
from tests.audit.watch import Watch, is_this_machine

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the watch is for POSIX systems")


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """With a copy of what run.py needs in it."""
    watch = Watch(tmp_path)
    for name in ("run.py", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "bootstrap", tmp_path / "bootstrap")
    return watch


def run(watch: Watch, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    programs = f"{Path(sys.executable).parent}:{os.defpath}"
    return subprocess.run(
        [sys.executable, "run.py", *arguments],
        cwd=watch.folder,
        env={**watch.environment, "PATH": programs, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_later_start_calls_nobody_and_writes_its_stamp_alone(watch: Watch) -> None:
    venv = watch.folder / ".venv"
    python = program(venv, "python")
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    wanted = Stamp.wanted(Settings({}, "auto"), RUNTIME)
    there = {**asdict(wanted), "root": str(watch.folder), "extras": sorted(wanted.extras)}
    stamp = venv / "y26hkx-stamp.json"
    stamp.write_text(json.dumps(there))
    done = run(watch, "setup")
    assert done.returncode == 0, done.stderr
    done_elsewhere = [note for note in watch.notes() if note.value != str(stamp)]
    assert {note.what for note in done_elsewhere} == {"begin"}
    assert not watch.called_natively()


def test_a_first_start_asks_the_index_that_the_user_named_and_nobody_else(watch: Watch) -> None:
    with socket.socket() as bound:
        # Nobody listens: an index that is down.
        bound.bind(("127.0.0.1", 0))
        index = f"http://127.0.0.1:{bound.getsockname()[1]}/simple"
        done = run(
            watch, "setup", "gateway", UV_INDEX_URL=index, PIP_INDEX_URL=index, UV_HTTP_RETRIES="0"
        )
    assert done.returncode == 1, done.stderr
    assert "Set-up stopped" in done.stderr
    called = watch.called() | (watch.called_natively() or set())
    assert called
    assert [host for host in called if not is_this_machine(host)] == []
    assert list(watch.home.iterdir()) == []
    assert watch.written_elsewhere() == set()
