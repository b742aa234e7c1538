"""The environment for the bootstrap; the only module here that reads it."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

TorchChoice = Literal["auto", "cpu", "cuda", "pypi"]

ROOT = Path(__file__).resolve().parent.parent


class SetupError(Exception):
    """The set-up cannot continue; the message says why and what to do."""


@dataclass(frozen=True)
class Settings:
    """The environment's settings of the set-up.

    Args:
        variables: the whole environment, to be passed to uv, pip and the programs that are started.
        torch: Y26HKX_TORCH: auto (CPU build unless there is an NVIDIA GPU), cpu, cuda or pypi
            (both: the package index's default build, several GB on Linux).
    """

    variables: dict[str, str]
    torch: TorchChoice

    @classmethod
    def read(cls) -> "Settings":
        """The settings of this process.

        Raises:
            SetupError: a variable has an invalid value.
        """
        variables = dict(os.environ)  # noqa: TID251 - settings.py is where the environment is read
        torch = variables.get("Y26HKX_TORCH", "auto").strip().lower() or "auto"
        for choice in get_args(TorchChoice):
            if torch == choice:
                return cls(variables, choice)
        raise SetupError(f"Y26HKX_TORCH={torch}: must be one of {', '.join(get_args(TorchChoice))}")


def scripts_folder(venv: Path) -> Path:
    """The folder of a virtual environment that contains its programs."""
    return venv / ("Scripts" if sys.platform == "win32" else "bin")


def program(venv: Path, name: str) -> Path:
    """The path of the program `name` in a virtual environment."""
    return scripts_folder(venv) / (f"{name}.exe" if sys.platform == "win32" else name)
