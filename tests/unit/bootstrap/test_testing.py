"""Which tests run in which session, and that failures of any are told."""

import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bootstrap import testing
from tests.conftest import SLOW_MODULES, TESTS
from tests.running_stack import KEPT_VARIABLES

PASSES = "def test_it(record_property: object) -> None:\n    pass\n"
FAILS = "def test_it() -> None:\n    raise AssertionError\n"
SLOW = "import pytest\n\n\n@pytest.mark.slow\n" + FAILS
FOLDERS = (*(f for folders in testing.SESSIONS.values() for f in folders), "tests/unit/gateway")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one passing test in each folder of ours."""
    for folder in FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"test_{Path(folder).name}.py").write_text(PASSES)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\ntestpaths = tests\nmarkers = slow\naddopts = --import-mode=importlib\n"
    )
    monkeypatch.setattr(testing, "ROOT", tmp_path)
    return tmp_path


def run(project: Path, *arguments: str) -> int:
    kept = {k: v for k, v in psutil.Process().environ().items() if k in KEPT_VARIABLES}
    env = kept | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return testing.test(Path(sys.executable), ["-q", "-p", "no:cacheprovider", *arguments], env)


def test_every_test_runs_in_one_session(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(project) == 0
    *sessions, _ = capfd.readouterr().err.splitlines()
    counts = [line.split()[0] for line in sessions if " passed" in line]
    assert len(counts) == len(testing.SESSIONS) + 1
    assert sum(map(int, counts)) == len(FOLDERS)


def test_the_last_lines_are_about_all_sessions(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (project / "tests" / "contract" / "test_more.py").write_text(FAILS)
    assert run(project) != 0
    *_, failure, last = capfd.readouterr().err.splitlines()
    assert failure == "FAILED tests.contract.test_more::test_it"
    assert f"= 1 failed, {len(FOLDERS)} passed in " in last


def test_a_session_that_dies_is_in_the_last_line(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dies = "import os\n\n\ndef test_it() -> None:\n    os._exit(3)\n"
    (project / "tests" / "models" / "test_more.py").write_text(dies)
    assert run(project) != 0
    assert " passed, 1 session(s) died in " in capfd.readouterr().err.splitlines()[-1]


def test_a_session_that_does_not_end_is_stopped_and_says_where_it_stood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hangs = "import time\nprint('begun', flush=True)\ntime.sleep(600)"
    command = [sys.executable, "-X", "faulthandler", "-c", hangs]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as session:
        assert session.stdout is not None
        assert session.stderr is not None
        assert session.stdout.readline().strip() == b"begun"
        monkeypatch.setattr(testing, "SESSION_WITHIN_S", 0.1)
        assert testing.ended(session) != 0
        if sys.platform != "win32":
            assert b"line 3 in <module>" in session.stderr.read()


@pytest.mark.parametrize("folder", ["tests/contract", "tests/stack", "tests/models"])
def test_a_failure_in_any_session_is_the_result(project: Path, folder: str) -> None:
    (project / folder / "test_more.py").write_text(FAILS)
    assert run(project) != 0


def test_fast_leaves_out_what_is_slow_and_the_whole_services(project: Path) -> None:
    (project / "tests" / "contract" / "test_more.py").write_text(SLOW)
    (project / "tests" / "stack" / "test_more.py").write_text(FAILS)
    assert run(project, "--fast") == 0


def test_paths_are_run_in_one_session(project: Path) -> None:
    shutil.rmtree(project / "tests" / "stack")
    (project / "tests" / "faults" / "test_more.py").write_text(FAILS)
    assert run(project, "tests/contract") == 0
    assert run(project, "tests/contract", "tests/faults") != 0


def test_tests_with_a_container_engine_run_only_if_they_are_wanted(project: Path) -> None:
    (project / "tests" / "containers").mkdir()
    (project / "tests" / "containers" / "test_engine.py").write_text(FAILS)
    assert run(project) == 0
    assert run(project, "--containers") != 0


def test_the_slow_modules_exist() -> None:
    missing = [name for name in SLOW_MODULES if not (TESTS / name).is_file()]
    assert missing == []
