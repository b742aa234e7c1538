"""The C++ compiler that CMake will use: whether there is one, and whether its code is correct."""

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
# GCC removes the stores to the tile configuration before `ldtilecfg` (GCC PR target/114098), so
# every matrix product with AMX crashes. GCC supports AMX since 11; from these versions on it is
# correct.
FIRST_WITH_AMX = (11, 0)
RIGHT_FROM = {12: (12, 4), 13: (13, 3)}
ALL_RIGHT_FROM = (14, 0)
WITHOUT_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"


def has_compiler() -> bool:
    """Whether there is a C++ compiler that CMake can find."""
    if sys.platform == "win32":
        return shutil.which("cl") is not None or _visual_studio()
    if sys.platform == "darwin":
        # /usr/bin/c++ always exists; without the developer tools it only asks to install them.
        tools = subprocess.run(["xcode-select", "-p"], capture_output=True, check=False)
        return tools.returncode == 0
    return any(shutil.which(name) for name in ("c++", "g++", "clang++"))


def compiler_advice() -> str:
    """How to get a compiler on this system: a command to type, or what to install."""
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
    """The compiler's name if it compiles AMX wrongly, such as "GCC 12.2"; else empty.

    Args:
        variables: the environment, which may select a compiler other than the default.
    """
    macros = _macros(_compiler(variables))
    version = (int(macros.get("__GNUC__", 0)), int(macros.get("__GNUC_MINOR__", 0)))
    # Clang defines GCC's macros, too.
    is_gcc = "__GNUC__" in macros and "__clang__" not in macros and "__x86_64__" in macros
    return f"GCC {version[0]}.{version[1]}" if is_gcc and makes_wrong_amx(version) else ""


def makes_wrong_amx(gcc: tuple[int, int]) -> bool:
    """Whether this version of GCC compiles AMX wrongly."""
    return FIRST_WITH_AMX <= gcc < RIGHT_FROM.get(gcc[0], ALL_RIGHT_FROM)


def _compiler(variables: Mapping[str, str]) -> list[str]:
    """The command that CMake chooses: from an argument, a variable, or the system."""
    named = re.search(r"-DCMAKE_CXX_COMPILER(?::\w+)?=(\S+)", variables.get("CMAKE_ARGS", ""))
    if named:
        return [named[1].strip("\"'")]
    if given := variables.get("CXX"):
        return shlex.split(given)
    if sys.platform == "win32":
        # Visual Studio's compiler, which does not support AMX.
        return []
    return [name for name in ("c++", "g++", "clang++") if shutil.which(name)][:1]


def _macros(compiler: list[str]) -> dict[str, str]:
    """The macros that the compiler predefines."""
    if not compiler:
        return {}
    command = [*compiler, "-dM", "-E", "-x", "c++", os.devnull]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        # CMake will report that it is missing.
        return {}
    return dict(re.findall(r"^#define (\w+) (\S+)$", output, re.MULTILINE))


def _visual_studio() -> bool:
    program_files = Path("C:/Program Files (x86)")
    vswhere = program_files / "Microsoft Visual Studio" / "Installer" / "vswhere.exe"
    if not vswhere.exists():
        return False
    tools = "Microsoft.VisualStudio.Component.VC.Tools.x86.x64"
    command = [str(vswhere), "-latest", "-products", "*", "-requires", tools, "-property", "path"]
    found = subprocess.run(command, capture_output=True, check=False)
    return found.returncode == 0 and bool(found.stdout.strip())
