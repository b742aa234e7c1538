"""`run.py check`: everything that is checked without running the code, each step always run."""

import time
from collections.abc import Mapping
from pathlib import Path

from bootstrap.lock import LOCK, Lock, digest_of_inputs
from bootstrap.progress import run, say
from bootstrap.settings import scripts_folder


def check(python: Path, env: Mapping[str, str]) -> int:
    """Run all steps; 1 if any failed, else 0."""
    scripts = scripts_folder(python.parent.parent)
    steps: list[tuple[str, list[str | Path]]] = [
        ("format", [python, "-m", "ruff", "format", "--check", "."]),
        ("lint", [python, "-m", "ruff", "check", "."]),
        ("types", [python, "-m", "mypy", "."]),
        ("import contracts", [scripts / "lint-imports"]),
        ("generated code", [python, "-m", "protos.generate", "--check"]),
    ]
    failed = []
    for title, command in steps:
        began = time.monotonic()
        say(f"· {title} …")
        code = run(command, env)
        say(f"  {title}: {'ok' if code == 0 else 'FAILED'} after {time.monotonic() - began:.1f} s")
        if code != 0:
            failed.append(title)
    if Lock.read().inputs() != digest_of_inputs():
        say(f"· {LOCK.name} was not made from this pyproject.toml: run `python3 run.py lock`")
        failed.append("lock")
    say(f"check: {'FAILED: ' + ', '.join(failed) if failed else 'all ok'}")
    return 1 if failed else 0
