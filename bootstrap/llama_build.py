"""llama-cpp-python: a ready wheel where there is one, else compiled here, which takes minutes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bootstrap.lock import LOCK, Lock
from bootstrap.progress import Step, say
from bootstrap.settings import SetupError
from bootstrap.torch_build import reachable
from bootstrap.uv import Uv

AUTHOR_INDEX = "https://abetlen.github.io/llama-cpp-python/whl/cpu"
NAME = "llama-cpp-python"
PACKAGE_TOOLS = {
    "apt-get": "sudo apt-get install build-essential",
    "dnf": "sudo dnf install gcc-c++ make",
    "pacman": "sudo pacman -S base-devel",
    "zypper": "sudo zypper install gcc-c++ make",
    "apk": "sudo apk add build-base linux-headers",
}


def install(uv: Uv, lock: Lock) -> None:
    """Install llama-cpp-python into .venv.

    Raises:
        SetupError: there is no ready wheel and no compiler, or the build failed.
    """
    version = lock.version(NAME)
    with Step(f"looking for a ready wheel of {NAME} {version}") as step:
        wheel = [f"{NAME}=={version}", "--only-binary", NAME]
        if step.attempt(uv.install(*wheel), uv.env):
            return
        if reachable(f"{AUTHOR_INDEX}/{NAME}/", uv.env):
            if step.attempt(uv.install(*wheel, "--index", AUTHOR_INDEX), uv.env):
                return
            say("  none: its author has no wheel for this system and Python")
        else:
            say("  none: its author's index cannot be reached")
    if not has_compiler():
        raise SetupError(
            f"{NAME} must be compiled here, and there is no C++ compiler. Install one:\n"
            f"  {compiler_advice()}\nThen run this again."
        )
    _compile(uv, lock, version)


def _compile(uv: Uv, lock: Lock, version: str) -> None:
    package = next(p for p in lock.packages if p.name == NAME)
    n_cpus = os.cpu_count() or 1
    env = {"CMAKE_BUILD_PARALLEL_LEVEL": str(n_cpus), **uv.env}
    hint = f"with {n_cpus} CPUs this takes about {max(1, round(14 / n_cpus))} minutes, once"
    with Step(f"compiling {NAME} {version}", hint=hint) as step:
        # The tools that build it are locked too.
        command = uv.install("--build-constraints", LOCK, "-r", "-")
        step.call(command, env, package.text)


def has_compiler() -> bool:
    """Whether a C++ compiler is there for CMake to find."""
    if sys.platform == "win32":
        return shutil.which("cl") is not None or _visual_studio()
    if sys.platform == "darwin":
        # /usr/bin/c++ is always there; without the tools it only asks for their installation.
        tools = subprocess.run(["xcode-select", "-p"], capture_output=True, check=False)
        return tools.returncode == 0
    return any(shutil.which(name) for name in ("c++", "g++", "clang++"))


def compiler_advice() -> str:
    """What to type or install on this system to get a compiler."""
    if sys.platform == "win32":
        return (
            "winget install Microsoft.VisualStudio.2022.BuildTools --override "
            '"--wait --passive --add Microsoft.VisualStudio.Workload.VCTools --includeRecommended"'
        )
    if sys.platform == "darwin":
        return "xcode-select --install"
    for tool, command in PACKAGE_TOOLS.items():
        if shutil.which(tool):
            return command
    return "your system's packages of gcc, g++ and make"


def _visual_studio() -> bool:
    program_files = Path("C:/Program Files (x86)")
    vswhere = program_files / "Microsoft Visual Studio" / "Installer" / "vswhere.exe"
    if not vswhere.exists():
        return False
    tools = "Microsoft.VisualStudio.Component.VC.Tools.x86.x64"
    command = [str(vswhere), "-latest", "-products", "*", "-requires", tools, "-property", "path"]
    found = subprocess.run(command, capture_output=True, check=False)
    return found.returncode == 0 and bool(found.stdout.strip())
