"""run.py's commands: each updates .venv if necessary, then runs something in it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bootstrap.progress import say
from bootstrap.settings import ROOT, Settings, SetupError

HELP = """\
python3 run.py COMMAND [arguments]

  serve   [--host 127.0.0.1] [--port 8001] …   set up, then serve: gateway, chat and embeddings
  test    [--fast] [--coverage] [pytest's …]   run all tests, those that are not slow, or those
                                               named; --coverage measures which lines ran
          --containers                         those that need a container engine
  check   [STEP …]                             format, lint, types, import contracts, drift
  bench   NAME …                               measure, each figure beside a peer's
  setup   [EXTRA …]                            set up .venv, for these extras only (all), and stop
  wheel   [--llama] [FOLDER]                   build a wheel with the built-in models inside (dist);
                                               --llama: one of llama.cpp, for machines without a
                                               compiler and for every processor
  lock    [--upgrade]                          write requirements.lock anew
  help                                         this text

The first start installs into .venv and takes minutes; later ones install nothing. Indexes,
find-links folders and certificates are taken from pip's and uv's configuration. Y26HKX_TORCH
chooses torch's build: auto (CPU unless there is an NVIDIA GPU), cpu, cuda, pypi. Y26HKX_LLAMA
chooses llama.cpp's: auto (for this processor), portable (for all: it takes longer).
After set-up the same is .venv/bin/y26hkx serve (Windows: .venv\\Scripts\\y26hkx serve).
"""


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit status."""
    name, arguments = (argv[0], list(argv[1:])) if argv else ("help", [])
    if name in {"help", "-h", "--help"}:
        sys.stdout.write(HELP)
        return 0
    command = COMMANDS.get(name)
    if command is None:
        say(f"There is no command {name!r}.\n\n{HELP}")
        return 2
    try:
        return command(Settings.read(), arguments)
    except SetupError as error:
        say(f"\nSet-up stopped: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nStopped.")
        return 130


def _serve(settings: Settings, arguments: list[str]) -> int:
    from bootstrap.environment import RUNTIME, ensure

    python = ensure(settings, RUNTIME)
    return _become([python, "-m", "cli", "serve", *arguments], settings.variables, drains=True)


def _test(settings: Settings, arguments: list[str]) -> int:
    from bootstrap.testing import test

    return test(_development_python(settings), arguments, settings.variables)


def _bench(settings: Settings, arguments: list[str]) -> int:
    python = _development_python(settings)
    return _become([python, "-m", "benchmarks", *arguments], settings.variables)


def _check(settings: Settings, arguments: list[str]) -> int:
    from bootstrap.check import check

    return check(_development_python(settings), settings.variables, arguments)


def _setup(settings: Settings, arguments: list[str]) -> int:
    from bootstrap.environment import RUNTIME, ensure

    say(f"Ready: {ensure(settings, frozenset(arguments) or RUNTIME, test=True)}")
    return 0


def _wheel(settings: Settings, arguments: list[str]) -> int:
    from bootstrap import llama_wheel, wheel

    folders = [argument for argument in arguments if argument != "--llama"]
    make = wheel if folders == arguments else llama_wheel
    say(f"Built: {make.build(settings, Path(*folders[:1] or ['dist']).resolve())}")
    return 0


def _lock(settings: Settings, arguments: list[str]) -> int:
    from bootstrap.relock import relock

    relock(settings, upgrade="--upgrade" in arguments)
    return 0


def _development_python(settings: Settings) -> Path:
    from bootstrap.environment import DEVELOPMENT, ensure

    return ensure(settings, DEVELOPMENT)


def _become(
    command: Sequence[str | Path], variables: Mapping[str, str], *, drains: bool = False
) -> int:
    """Run `command` in the repository's root in place of this process.

    Args:
        drains: it drains when its parent ends, if EXIT_WITH_PARENT is set.
    """
    words = [str(word) for word in command]
    if sys.platform != "win32":
        os.chdir(ROOT)
        os.execve(words[0], words, dict(variables))
    # Windows has no exec, so this process waits for the program. Ctrl-C reaches both, and the
    # program handles it. The pipe ends the program if this process ends in another way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGBREAK, signal.SIG_IGN)
    env = {**variables, "EXIT_WITH_PARENT": "1"} if drains else dict(variables)
    stdin = subprocess.PIPE if drains else None
    with subprocess.Popen(words, cwd=ROOT, env=env, stdin=stdin) as program:
        return program.wait()


COMMANDS: dict[str, Callable[[Settings, list[str]], int]] = {
    "serve": _serve,
    "test": _test,
    "check": _check,
    "bench": _bench,
    "setup": _setup,
    "wheel": _wheel,
    "lock": _lock,
}
