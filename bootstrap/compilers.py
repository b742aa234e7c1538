"""The C++ compiler that CMake will find: whether there is one, and what it makes wrong."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PACKAGE_TOOLS = {
    "apt-get": "sudo apt-get install build-essential",
    "dnf": "sudo dnf install gcc-c++ make",
    "pacman": "sudo pacman -S base-devel",
    "zypper": "sudo zypper install gcc-c++ make",
    "apk": "sudo apk add build-base linux-headers",
}
# GCC drops the stores to the tile configuration before `ldtilecfg` (GCC PR target/114098): every
# matrix product through AMX then ends the process. AMX came with 11; from these on it is right.
FIRST_WITH_AMX = (11, 0)
RIGHT_FROM = {12: (12, 4), 13: (13, 3)}
ALL_RIGHT_FROM = (14, 0)
WITHOUT_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"


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


def wrong_amx(variables: Mapping[str, str]) -> str:
    """The compiler's name if its code for AMX is wrong, such as "GCC 12.2"; else empty.

    Args:
        variables: of the environment, which may name another compiler than the usual one.
    """
    macros = _macros(_compiler(variables))
    version = (int(macros.get("__GNUC__", 0)), int(macros.get("__GNUC_MINOR__", 0)))
    # Clang says that it is a GCC, too.
    is_gcc = "__GNUC__" in macros and "__clang__" not in macros and "__x86_64__" in macros
    return f"GCC {version[0]}.{version[1]}" if is_gcc and makes_wrong_amx(version) else ""


def makes_wrong_amx(gcc: tuple[int, int]) -> bool:
    """Whether this version of GCC does."""
    return FIRST_WITH_AMX <= gcc < RIGHT_FROM.get(gcc[0], ALL_RIGHT_FROM)


def _compiler(variables: Mapping[str, str]) -> list[str]:
    """As CMake chooses it: an argument, a variable, the system's."""
    named = re.search(r"-DCMAKE_CXX_COMPILER(?::\w+)?=(\S+)", variables.get("CMAKE_ARGS", ""))
    if named:
        return [named[1].strip("\"'")]
    if given := variables.get("CXX"):
        return shlex.split(given)
    if sys.platform == "win32":
        # Visual Studio's, which knows no AMX.
        return []
    return [name for name in ("c++", "g++", "clang++") if shutil.which(name)][:1]


def _macros(compiler: list[str]) -> dict[str, str]:
    """What it defines by itself."""
    if not compiler:
        return {}
    command = [*compiler, "-dM", "-E", "-x", "c++", os.devnull]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        # CMake will say that it is not there.
        return {}
    return dict(re.findall(r"^#define (\w+) (\S+)$", said, re.MULTILINE))


def _visual_studio() -> bool:
    program_files = Path("C:/Program Files (x86)")
    vswhere = program_files / "Microsoft Visual Studio" / "Installer" / "vswhere.exe"
    if not vswhere.exists():
        return False
    tools = "Microsoft.VisualStudio.Component.VC.Tools.x86.x64"
    command = [str(vswhere), "-latest", "-products", "*", "-requires", tools, "-property", "path"]
    found = subprocess.run(command, capture_output=True, check=False)
    return found.returncode == 0 and bool(found.stdout.strip())
