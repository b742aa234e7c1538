"""`run.py test`: the tests in two sessions, each in a process of its own.

The first loads model libraries into pytest's own process, the second serves gRPC in it. No process
of ours ever has both, and one that had crashed now and then, deep in native code.
"""

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bootstrap.progress import say
from bootstrap.settings import ROOT

WITH_MODEL_LIBRARIES = ("tests/models", "tests/unit/chat_worker", "tests/unit/embed_worker")
FAST, COVERAGE = "--fast", "--coverage"


def test(python: Path, arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Run all tests, or in one session those that `arguments` choose; 0 if all passed.

    Args:
        arguments: pytest's, and two of ours: --fast leaves out the tests marked as slow,
            --coverage measures which lines ran, in all processes, and prints them at the end.
    """
    chosen = [argument for argument in arguments if argument not in (FAST, COVERAGE)]
    fast, coverage = FAST in arguments, [str(python), "-m", "coverage"]
    if fast:
        chosen += ["-m", "not slow"]
    if COVERAGE not in arguments:
        return _in_sessions([str(python), "-m", "pytest"], chosen, fast, env)
    _run([*coverage, "erase"], env)
    failed = _in_sessions([*coverage, "run", "-m", "pytest"], chosen, fast, env)
    return (
        failed or _run([*coverage, "combine", "--quiet"], env) or _run([*coverage, "report"], env)
    )


def _in_sessions(
    pytest: Sequence[str], arguments: Sequence[str], at_once: bool, env: Mapping[str, str]
) -> int:
    if any(_is_path(argument) for argument in arguments):
        return _run([*pytest, *arguments], env)
    first = [*pytest, *arguments, *WITH_MODEL_LIBRARIES]
    second = [*pytest, *arguments, *(f"--ignore={folder}" for folder in WITH_MODEL_LIBRARIES)]
    return (_at_once if at_once else _in_turn)(first, second, env)


def _in_turn(first: Sequence[str], second: Sequence[str], env: Mapping[str, str]) -> int:
    say("· tests that load models into their own process …")
    failed = _run(first, env)
    say("· all other tests …")
    return _run(second, env) or failed


def _at_once(first: Sequence[str], second: Sequence[str], env: Mapping[str, str]) -> int:
    """Fast tests only: the slow ones measure memory, and time what the others would hold up."""
    say("· all other tests; beside them, and printed after, those that load model libraries …")
    with tempfile.TemporaryFile() as printed:
        with subprocess.Popen(first, cwd=ROOT, env=env, stdout=printed, stderr=printed) as beside:
            failed = _run(second, env)
        printed.seek(0)
        say(printed.read().decode(errors="replace"))
    return failed or beside.returncode


def _run(command: Sequence[str], env: Mapping[str, str]) -> int:
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode


def _is_path(argument: str) -> bool:
    return not argument.startswith("-") and (ROOT / argument.partition("::")[0]).exists()
