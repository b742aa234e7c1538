"""The environment for the bootstrap; the only module here that reads it."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

TorchChoice = Literal["auto", "cpu", "cuda", "pypi"]
LlamaChoice = Literal["auto", "portable"]

ROOT = Path(__file__).resolve().parent.parent

T = TypeVar("T")


class SetupError(Exception):
    """The set-up cannot continue; the message says why and what to do."""


@dataclass(frozen=True)
class Settings:
    """The environment's settings of the set-up.

    Args:
        variables: the whole environment, to be passed to uv, pip and the programs that are started.
        torch: Y26HKX_TORCH: auto (CPU build unless there is an NVIDIA GPU), cpu, cuda or pypi
            (both: the package index's default build, several GB on Linux).
        llama: Y26HKX_LLAMA: auto (a ready wheel, else compiled for this processor) or portable
            (compiled for all processors of its kind; the best code is chosen when it is loaded).
    """

    variables: dict[str, str]
    torch: TorchChoice
    llama: LlamaChoice = "auto"

    @classmethod
    def read(cls) -> "Settings":
        """The settings of this process.

        Raises:
            SetupError: a variable has an invalid value.
        """
        variables = dict(os.environ)  # noqa: TID251 - settings.py is where the environment is read
        torch = _chosen(variables, "Y26HKX_TORCH", get_args(TorchChoice))
        return cls(variables, torch, _chosen(variables, "Y26HKX_LLAMA", get_args(LlamaChoice)))


def _chosen(variables: Mapping[str, str], name: str, choices: tuple[T, ...]) -> T:
    given = variables.get(name, "auto").strip().lower() or "auto"
    for choice in choices:
        if given == choice:
            return choice
    raise SetupError(f"{name}={given}: must be one of {', '.join(map(str, choices))}")


def scripts_folder(venv: Path) -> Path:
    """The folder of a virtual environment that contains its programs."""
    return venv / ("Scripts" if sys.platform == "win32" else "bin")


def program(venv: Path, name: str) -> Path:
    """The path of the program `name` in a virtual environment."""
    return scripts_folder(venv) / (f"{name}.exe" if sys.platform == "win32" else name)
