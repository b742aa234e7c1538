"""The environment as the bootstrap sees it; the only module here that reads it."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

TorchChoice = Literal["auto", "cpu", "cuda", "pypi"]

ROOT = Path(__file__).resolve().parent.parent


class SetupError(Exception):
    """The set-up cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Settings:
    """What the user's environment says about the set-up.

    Args:
        variables: the whole environment, to be passed on to uv, pip and the programs started.
        torch: Y26HKX_TORCH: auto (CPU build unless there is an NVIDIA GPU), cpu, cuda or pypi
            (both: the package index's default build, several GB on Linux).
    """

    variables: dict[str, str]
    torch: TorchChoice

    @classmethod
    def read(cls) -> "Settings":
        """Settings of this process.

        Raises:
            SetupError: a variable has a value that means nothing.
        """
        variables = dict(os.environ)  # noqa: TID251 - settings.py is where the environment is read
        torch = variables.get("Y26HKX_TORCH", "auto").strip().lower() or "auto"
        for choice in get_args(TorchChoice):
            if torch == choice:
                return cls(variables, choice)
        raise SetupError(f"Y26HKX_TORCH={torch}: must be one of {', '.join(get_args(TorchChoice))}")


def scripts_folder(venv: Path) -> Path:
    return venv / ("Scripts" if sys.platform == "win32" else "bin")


def program(venv: Path, name: str) -> Path:
    """The program `name` of a virtual environment."""
    return scripts_folder(venv) / (f"{name}.exe" if sys.platform == "win32" else name)
