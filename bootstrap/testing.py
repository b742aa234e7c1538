"""`run.py test`: runs the tests in four sessions, each in a process of its own.

One session loads model libraries into pytest's own process, the others serve gRPC in it. No process
of ours ever has both; a test process that had both sometimes crashed in native code. Unit and
contract tests, which wait for sockets most of the time, run at the same time as the model
libraries' session. Tests of whole services, which measure time and memory, run alone, and so do
tests with a container engine, if they are wanted. The last lines printed are about all of them.
"""

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bootstrap.progress import say
from bootstrap.session_totals import report_arguments, totals
from bootstrap.settings import ROOT

WITH_MODEL_LIBRARIES = ("tests/models", "tests/unit/chat_worker", "tests/unit/embed_worker")
OF_WHOLE_SERVICES = ("tests/clients", "tests/faults", "tests/stack")
OF_THE_GATEWAY = "tests/contract"
WITH_CONTAINERS = "tests/containers"
# Several times what a session takes on two cores. One that hangs in native code, where no limit of
# a test reaches it, must not take the time of the others.
SESSION_WITHIN_S = 2400.0
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
    elsewhere = (*WITH_MODEL_LIBRARIES, *OF_WHOLE_SERVICES, OF_THE_GATEWAY, WITH_CONTAINERS)
    others = [f"--ignore={folder}" for folder in elsewhere]
    sessions = {"others": others, "gateway": [OF_THE_GATEWAY], "models": WITH_MODEL_LIBRARIES}
    if not fast:
        sessions["services"] = OF_WHOLE_SERVICES
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        shown, gateway_run, models_run, *services_run = (
            [*command, *report_arguments(Path(folder), name), *chosen]
            for name, chosen in sessions.items()
        )
        failed = _at_once(shown, (gateway_run, models_run), env)
        for services in services_run:
            say("· tests of whole services …")
            failed = _run(services, env) or failed
        if any(Path(folder).iterdir()):
            say(totals(Path(folder), len(sessions), began_s))
    return failed


def _at_once(shown: Sequence[str], beside: Sequence[Sequence[str]], env: Mapping[str, str]) -> int:
    say("· unit tests; at the same time, printed later, those of the gateway and of models …")
    with contextlib.ExitStack() as files:
        printed = [files.enter_context(tempfile.TemporaryFile()) for _ in beside]
        running = [
            subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=file)
            for command, file in zip(beside, printed, strict=True)
        ]
        failed = _run(shown, env)
        for process, file in zip(running, printed, strict=True):
            failed = ended(process) or failed
            file.seek(0)
            say(file.read().decode(errors="replace"))
    return failed


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
