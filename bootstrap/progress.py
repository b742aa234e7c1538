"""Prints one line per step of the set-up, with its duration; long steps report that they run."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bootstrap.settings import ROOT, SetupError

TICK_S = 15.0


def say(text: str) -> None:
    """Print one line at once, also into a pipe."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Step:
    """A step that is announced at its beginning and timed at its end.

    with Step("installing torch") as step:
        step.call([...], env)
    """

    def __init__(self, title: str, *, hint: str = "") -> None:
        self._title = title
        self._hint = hint
        self._began = 0.0
        self._ended = threading.Event()

    def __enter__(self) -> "Step":
        self._began = time.monotonic()
        say(f"· {self._title}{f' ({self._hint})' if self._hint else ''} …")
        if not sys.stderr.isatty():
            # On a terminal the programs show their own progress.
            threading.Thread(target=self._tick, name="progress", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        elapsed_s = time.monotonic() - self._began
        outcome = "done" if kind is None else "not done"
        say(f"  {self._title}: {outcome} after {elapsed_s:.1f} s")

    def call(self, command: Sequence[str | Path], env: Mapping[str, str], text: str = "") -> None:
        """Run `command` and show its output; `text` is its stdin.

        Raises:
            SetupError: the command failed.
        """
        code = run(command, env, text)
        if code != 0:
            raise SetupError(f"{self._title} failed (exit status {code}); the reason is above.")

    def attempt(self, command: Sequence[str | Path], env: Mapping[str, str]) -> bool:
        """Run `command` without showing its output; return whether it succeeded."""
        done = subprocess.run(
            [str(part) for part in command],
            env=env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def _tick(self) -> None:
        while not self._ended.wait(TICK_S):
            say(f"  {self._title}: {time.monotonic() - self._began:.0f} s …")


def run(command: Sequence[str | Path], env: Mapping[str, str], text: str = "") -> int:
    """Run `command` in the repository's root with its output on stderr; return its exit status."""
    done = subprocess.run(
        [str(part) for part in command],
        env=env,
        cwd=ROOT,
        input=text.encode(),
        stdout=sys.stderr.fileno(),
        check=False,
    )
    return done.returncode
