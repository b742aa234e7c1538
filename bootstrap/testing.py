"""`run.py test`: runs the tests in three sessions, each in a process of its own.

One session loads model libraries into pytest's own process, the others serve gRPC in it. No process
of ours ever has both; a test process that had both sometimes crashed in native code. Unit and
contract tests run at the same time as the model libraries' session. Tests of whole services, which
measure time and memory, run alone. The last lines printed are about all three.
"""

import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bootstrap.progress import say
from bootstrap.session_totals import report_arguments, totals
from bootstrap.settings import ROOT

WITH_MODEL_LIBRARIES = ("tests/models", "tests/unit/chat_worker", "tests/unit/embed_worker")
OF_WHOLE_SERVICES = ("tests/clients", "tests/faults", "tests/stack")
FAST, COVERAGE = "--fast", "--coverage"


def test(python: Path, arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Run all tests, or in one session those that `arguments` choose. Returns 0 if all passed.

    Args:
        arguments: pytest's, and two of ours: --fast skips the tests marked as slow; --coverage
            measures in all processes which lines ran, and prints them at the end.
    """
    chosen = [argument for argument in arguments if argument not in (FAST, COVERAGE)]
    fast = FAST in arguments
    if fast:
        chosen += ["-m", "not slow"]
    if COVERAGE not in arguments:
        return _in_sessions([str(python), "-m", "pytest", *chosen], chosen, fast, env)
    coverage = [str(python), "-m", "coverage"]
    _run([*coverage, "erase"], env)
    measured = [*coverage, "run", "-m", "pytest", *chosen]
    failed = _in_sessions(measured, chosen, fast, env)
    _run([*coverage, "combine", "--quiet"], env)
    return _run([*coverage, "report"], env) or failed


def _in_sessions(
    command: Sequence[str], arguments: Sequence[str], fast: bool, env: Mapping[str, str]
) -> int:
    if any(_is_path(argument) for argument in arguments):
        return _run(command, env)
    others = [f"--ignore={folder}" for folder in WITH_MODEL_LIBRARIES + OF_WHOLE_SERVICES]
    sessions = {"others": others, "models": WITH_MODEL_LIBRARIES}
    if not fast:
        sessions["services"] = OF_WHOLE_SERVICES
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        others_run, models_run, *services_run = (
            [*command, *report_arguments(Path(folder), name), *chosen]
            for name, chosen in sessions.items()
        )
        failed = _at_once(others_run, models_run, env)
        for services in services_run:
            say("· tests of whole services …")
            failed = _run(services, env) or failed
        if any(Path(folder).iterdir()):
            say(totals(Path(folder), len(sessions), began_s))
    return failed


def _at_once(shown: Sequence[str], beside: Sequence[str], env: Mapping[str, str]) -> int:
    say("· unit and contract tests; at the same time, printed later, those that load models …")
    with tempfile.TemporaryFile() as printed:
        with subprocess.Popen(beside, cwd=ROOT, env=env, stdout=printed, stderr=printed) as running:
            failed = _run(shown, env)
        printed.seek(0)
        say(printed.read().decode(errors="replace"))
    return failed or running.returncode


def _run(command: Sequence[str], env: Mapping[str, str]) -> int:
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode


def _is_path(argument: str) -> bool:
    return not argument.startswith("-") and (ROOT / argument.partition("::")[0]).exists()
