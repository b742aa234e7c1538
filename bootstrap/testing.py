"""`run.py test`: runs the tests in several sessions, each in a process of its own.

Some sessions load model libraries into pytest's own process, the others serve gRPC in it. No
process of ours ever has both; a test process that had both sometimes crashed in native code. A
session often waits, for a process to start or a socket to answer, so more of them run at the same
time than there are cores. Tests with a container engine run alone, if they are wanted. The last
lines printed are about all sessions.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from bootstrap.progress import say
from bootstrap.session_totals import report_arguments, totals
from bootstrap.settings import ROOT

# The longest first, so that none is left over at the end.
SESSIONS = {
    "stack": ("tests/stack",),
    "gateway": ("tests/contract",),
    "chat models": ("tests/unit/chat_worker",),
    "other models": ("tests/unit/embed_worker", "tests/models"),
    "faults and clients": ("tests/faults", "tests/clients"),
}
OF_WHOLE_SERVICES = ("stack", "faults and clients")
WITH_CONTAINERS = "tests/containers"
# Several times what a session takes on two cores. One that hangs in native code, where no limit of
# a test reaches it, must not take the time of the others.
SESSION_WITHIN_S = 2400.0
# Threads of torch that wait for each other would take the cores on which the other sessions run.
SIDE_BY_SIDE = {"OMP_WAIT_POLICY": "passive"}
FAST, COVERAGE, CONTAINERS = "--fast", "--coverage", "--containers"


def test(python: Path, arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Run all tests, or in one session those that `arguments` choose. Returns 0 if all passed.

    Args:
        arguments: pytest's, and three of ours: --fast skips the tests marked as slow; --coverage
            measures in all processes which lines ran, and prints them at the end; --containers
            runs those alone that need a container engine.
    """
    chosen = [a for a in arguments if a not in (FAST, COVERAGE, CONTAINERS)]
    if CONTAINERS in arguments:
        chosen.append(WITH_CONTAINERS)
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
    elsewhere = [folder for folders in SESSIONS.values() for folder in folders] + [WITH_CONTAINERS]
    others = {"others": tuple(f"--ignore={folder}" for folder in elsewhere)}
    chosen = {
        name: tests
        for name, tests in (SESSIONS | others).items()
        if not (fast and name in OF_WHOLE_SERVICES)
    }
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        sessions = {
            name: [*command, *report_arguments(Path(folder), name), *tests]
            for name, tests in chosen.items()
        }
        failed = _side_by_side(sessions, (os.cpu_count() or 1) + 1, {**SIDE_BY_SIDE, **env})
        if any(Path(folder).iterdir()):
            say(totals(Path(folder), len(sessions), began_s))
    return failed


def _side_by_side(
    sessions: Mapping[str, Sequence[str]], at_once: int, env: Mapping[str, str]
) -> int:
    say(f"· {len(sessions)} sessions, {at_once} at a time; each is printed when it has ended …")
    failed = 0
    pool = ThreadPoolExecutor(at_once)
    try:
        running = {pool.submit(_printed, run, env): name for name, run in sessions.items()}
        for ending in as_completed(running):
            status, printed = ending.result()
            say(f"· {running[ending]}:\n{printed}")
            failed = status or failed
    finally:
        # After Ctrl-C, which ends the sessions that run, no other may begin.
        pool.shutdown(cancel_futures=True)
    return failed


def _printed(command: Sequence[str], env: Mapping[str, str]) -> tuple[int, str]:
    with tempfile.TemporaryFile() as file:
        status = ended(
            subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT)
        )
        file.seek(0)
        return status, file.read().decode(errors="replace")


def _run(command: Sequence[str], env: Mapping[str, str]) -> int:
    return ended(subprocess.Popen(command, cwd=ROOT, env=env))


def ended(process: subprocess.Popen[bytes]) -> int:
    """Return the exit status; a process that takes too long is ended, and says where it stood."""
    try:
        return process.wait(SESSION_WITHIN_S)
    except subprocess.TimeoutExpired:
        say(f"· a session has not ended within {SESSION_WITHIN_S:.0f} s and is stopped")
        # pytest has set faulthandler up, which prints where each thread is.
        process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGABRT)
        return process.wait() or 1


def _is_path(argument: str) -> bool:
    return not argument.startswith("-") and (ROOT / argument.partition("::")[0]).exists()
