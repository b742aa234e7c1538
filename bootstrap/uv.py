"""uv, which resolves and installs packages: from PATH, or installed into .venv by pip."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bootstrap.indexes import no_index, pip_configuration, uv_toml_keys, uv_variables
from bootstrap.lock import Lock
from bootstrap.progress import Step
from bootstrap.settings import ROOT, Settings, SetupError, program

VENV = ROOT / ".venv"
# The oldest version that supports everything used here.
OLDEST_UV = (0, 5)
# They select an environment other than .venv, such as an activated one.
OTHER_TARGETS = frozenset({"VIRTUAL_ENV", "PYTHONHOME", "UV_SYSTEM_PYTHON", "UV_PYTHON"})


class Uv:
    """uv with the user's indexes, installing into .venv."""

    def __init__(self, uv: Path, variables: Mapping[str, str], arguments: tuple[str, ...]) -> None:
        self._uv = uv
        self._arguments = arguments
        self.env = {name: value for name, value in variables.items() if name not in OTHER_TARGETS}

    def install(self, *what: str | Path) -> list[str | Path]:
        """The command that installs exactly `what`; the lock decides about versions and
        dependencies."""
        to = program(VENV, "python")
        # Compiled once: where Python may not write bytecode, each process would compile its imports
        # again, which takes twice as long as they do.
        options = ("--python", to, "--no-deps", "--compile-bytecode")
        return [self._uv, "pip", "install", *options, *self._arguments, *what]

    def install_with_dependencies(self, *what: str | Path) -> list[str | Path]:
        """The command that installs `what` and its dependencies."""
        return [part for part in self.install(*what) if part != "--no-deps"]

    def uninstall(self, *what: str) -> list[str | Path]:
        """The command that removes `what` if it is installed."""
        return [self._uv, "pip", "uninstall", "--python", program(VENV, "python"), *what]

    def compile(self, *options: str | Path) -> list[str | Path]:
        """The command that writes the lock."""
        return [self._uv, "pip", "compile", *options]


def prepare(settings: Settings, lock: Lock) -> Uv:
    """Make .venv if there is none that works; return uv for it.

    Raises:
        SetupError: a virtual environment or uv could not be made; the message says what to do.
    """
    pip = pip_configuration(settings.variables)
    variables = uv_variables(pip, settings.variables, uv_toml_keys(settings.variables))
    arguments = ("--no-index",) if no_index(pip) else ()
    found = _on_path()
    if not _works(program(VENV, "python")):
        _make_venv(found, variables)
    return Uv(found or _own(settings, lock), variables, arguments)


def remove_own(settings: Settings) -> None:
    """Remove uv from .venv, 39 MB, if it is there; the next set-up that needs it installs it."""
    if program(VENV, "uv").exists():
        command: list[str | Path] = [program(VENV, "python"), "-m", "pip", "uninstall"]
        command += ["--quiet", "--yes", "uv"]
        subprocess.run(command, env=settings.variables, check=False)


def _on_path() -> Path | None:
    found = shutil.which("uv")
    if found is None:
        return None
    done = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    if done.returncode != 0 or len(words) < 2:
        return None
    version = tuple(int(part) for part in words[1].split(".")[:2] if part.isdigit())
    return Path(found) if version >= OLDEST_UV else None


def _works(python: Path) -> bool:
    # The links in it are broken when the Python that it was made from is gone.
    if not python.exists():
        return False
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


def _make_venv(uv: Path | None, variables: Mapping[str, str]) -> None:
    with Step(f"making {VENV.name} with Python {sys.version.split()[0]}") as step:
        if VENV.exists():
            shutil.rmtree(VENV)
        if uv is not None:
            step.call([uv, "venv", "--quiet", "--python", sys.executable, VENV], variables)
            return
        if not step.attempt([sys.executable, "-m", "venv", VENV], variables):
            raise SetupError(
                "Python could not make a virtual environment: its venv module is not complete.\n"
                "On Debian and Ubuntu: sudo apt install python3-venv\n"
                "Or install uv (https://docs.astral.sh/uv/) and run this again."
            )


def _own(settings: Settings, lock: Lock) -> Path:
    """uv in .venv, installed by pip, which reads its own configuration."""
    own = program(VENV, "uv")
    if own.exists():
        return own
    (package,) = (p for p in lock.packages if p.name == "uv")
    with (
        tempfile.TemporaryDirectory() as folder,
        Step(f"installing uv {package.version}") as step,
    ):
        pinned = Path(folder) / "uv.txt"
        pinned.write_text(package.text, encoding="utf-8")
        python = program(VENV, "python")
        if not step.attempt([python, "-m", "pip", "--version"], settings.variables):
            step.call([python, "-m", "ensurepip"], settings.variables)
        options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]
        step.call([python, "-m", "pip", "install", *options, "-r", pinned], settings.variables)
    return own
