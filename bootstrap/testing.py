"""`run.py test`: the tests in two sessions, each in a process of its own.

The first loads model libraries into pytest's own process, the second serves gRPC in it. No process
of ours ever has both, and one that had crashed now and then, deep in native code.
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from bootstrap.progress import say
from bootstrap.settings import ROOT

WITH_MODEL_LIBRARIES = ("tests/models", "tests/unit/chat_worker", "tests/unit/embed_worker")


def test(python: Path, arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Run all tests, or in one session those that `arguments` choose; 0 if all passed."""

    def session(*more: str) -> int:
        command = [str(python), "-m", "pytest", *arguments, *more]
        return subprocess.run(command, cwd=ROOT, env=dict(env), check=False).returncode

    if any(not argument.startswith("-") for argument in arguments):
        return session()
    say("· tests that load models into their own process …")
    first = session(*WITH_MODEL_LIBRARIES)
    say("· all other tests …")
    return session(*(f"--ignore={folder}" for folder in WITH_MODEL_LIBRARIES)) or first
