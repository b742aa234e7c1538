"""`run.py check`: all static checks. Every step runs, even after one has failed."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from bootstrap.console import console_is_current
from bootstrap.lock import LOCK, Lock, digest_of_inputs
from bootstrap.progress import run, say
from bootstrap.settings import SetupError

# The names of the steps, in order; .pre-commit-config.yaml runs them one by one.
STEPS = ("format", "lint", "types", "import-contracts", "generated-code", "console", "lock")


def check(python: Path, env: Mapping[str, str], chosen: Sequence[str] = ()) -> int:
    """Run all steps, or those chosen. Returns 1 if one failed, else 0.

    Raises:
        SetupError: there is no such step.
    """
    if unknown := [name for name in chosen if name not in STEPS]:
        raise SetupError(f"no such step: {', '.join(unknown)} (of {', '.join(STEPS)})")
    steps = _steps(python, env)
    failed = []
    for name in chosen or STEPS:
        began = time.monotonic()
        say(f"· {name} …")
        ok = steps[name]()
        say(f"  {name}: {'ok' if ok else 'FAILED'} after {time.monotonic() - began:.1f} s")
        if not ok:
            failed.append(name)
    say(f"check: {'FAILED: ' + ', '.join(failed) if failed else 'all ok'}")
    return 1 if failed else 0


def _steps(python: Path, env: Mapping[str, str]) -> dict[str, Callable[[], bool]]:
    """The function of each step, which returns whether it passed."""
    commands: dict[str, list[str | Path]] = {
        "format": [python, "-m", "ruff", "format", "--check", "."],
        "lint": [python, "-m", "ruff", "check", "."],
        "types": [python, "-m", "mypy", "."],
        "import-contracts": [python.with_name("lint-imports")],
        "generated-code": [python, "-m", "protos.generate", "--check"],
    }
    steps: dict[str, Callable[[], bool]] = {
        name: partial(_succeeds, command, env) for name, command in commands.items()
    }
    return steps | {"console": partial(console_is_current, env), "lock": _lock_is_current}


def _succeeds(command: Sequence[str | Path], env: Mapping[str, str]) -> bool:
    return run(command, env) == 0


def _lock_is_current() -> bool:
    current = Lock.read().inputs() == digest_of_inputs()
    if not current:
        say(f"  {LOCK.name} was not made from this pyproject.toml: run `python3 run.py lock`")
    return current
