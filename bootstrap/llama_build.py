"""Installs llama-cpp-python: a ready wheel if there is one, else compiled here, which takes
minutes. If it does not compute correctly on this processor, it is built in another way.

What other machines run, such as an image, is compiled portably: the code for processors several
times, of which llama.cpp takes the best when it is loaded (`worker_runtime/llama_native.py`).
"""

import hashlib
import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from bootstrap.compilers import WITHOUT_AMX, compiler_advice, has_compiler, wrong_amx
from bootstrap.lock import LOCK, Lock
from bootstrap.processor import features_digest
from bootstrap.progress import Step, run, say
from bootstrap.settings import ROOT, LlamaChoice, SetupError
from bootstrap.torch_build import reachable
from bootstrap.uv import VENV, Uv

AUTHOR_INDEX = "https://abetlen.github.io/llama-cpp-python/whl/cpu"
NAME = "llama-cpp-python"
# The author's wheel; compiled for this processor; compiled once for all processors with AVX2, or
# what is as common of another kind; compiled many times, for all processors.
Build = Literal["wheel", "native", "plain", "portable"]
# What to build if that build does not work.
INSTEAD: dict[str, Build] = {"": "native", "wheel": "native", "native": "plain"}
# Exit statuses of `y26hkx selftest`: llama.cpp does not work at all, or only with plain code.
BROKEN, PLAIN_ONLY = 1, 3
FLAGS = {"CMAKE_C_FLAGS": "CFLAGS", "CMAKE_CXX_FLAGS": "CXXFLAGS"}
DEFINES: dict[Build, dict[str, str]] = {
    "plain": {"GGML_NATIVE": "OFF"},
    "portable": {
        "GGML_NATIVE": "OFF",
        "GGML_BACKEND_DL": "ON",
        "GGML_CPU_ALL_VARIANTS": "ON",
        # Where the package has its other libraries.
        "CMAKE_INSTALL_BINDIR": "llama_cpp/lib",
    },
}
# Included by CMake; it leaves out what this server does not use.
LEFT_OUT = ROOT / "bootstrap" / "llama_build.cmake"
# Minutes of one CPU, about.
CPU_MINUTES, CPU_MINUTES_PORTABLE = 5, 20
# The code for processors with AMX.
AMX_VARIANT = "*ggml-cpu-sapphirerapids*"


def install(uv: Uv, lock: Lock, choice: LlamaChoice = "auto") -> Build:
    """Install llama-cpp-python into .venv.

    Raises:
        SetupError: there is no ready wheel and no compiler, or the build failed.
    """
    if choice == "auto" and _install_wheel(uv, lock.version(NAME)):
        return "wheel"
    if not has_compiler():
        raise SetupError(
            f"{NAME} must be compiled here, and there is no C++ compiler. Install one:\n"
            f"  {compiler_advice()}\nThen run this again."
        )
    build: Build = "native" if choice == "auto" else choice
    if choice != "auto":
        # Another build may be there.
        with Step(f"removing another {NAME}") as step:
            step.call(uv.uninstall("--quiet", NAME), uv.env)
    _compile(uv, lock, build, again=False)
    return build


def _install_wheel(uv: Uv, version: str) -> bool:
    with Step(f"looking for a ready wheel of {NAME} {version}") as step:
        wheel = [f"{NAME}=={version}", "--only-binary", NAME]
        if step.attempt(uv.install(*wheel), uv.env):
            return True
        if reachable(f"{AUTHOR_INDEX}/{NAME}/", uv.env):
            if step.attempt(uv.install(*wheel, "--index", AUTHOR_INDEX), uv.env):
                return True
            say("  none: its author has no wheel for this system and Python")
        else:
            say("  none: its author's index cannot be reached")
    return False


def test(
    get_uv: Callable[[], Uv],
    lock: Lock,
    python: Path,
    variables: Mapping[str, str],
    build: str,
    *,
    thorough: bool,
) -> str:
    """Test the installed build on this processor. If it fails, compile it in another way.

    Args:
        get_uv: called if something must be compiled.
        build: how it was built; empty if unknown.
        thorough: also recompile a build that works with plain code only, which is slower but
            correct.
    Returns:
        How it is built now.
    """
    if not (ROOT / "cli").is_dir():
        # This is an image build: the machine that runs the image tests it.
        return build
    failed = {BROKEN, PLAIN_ONLY} if thorough else {BROKEN}
    while _selftest(python, variables) in failed:
        instead = INSTEAD.get(build)
        if instead is None or not has_compiler():
            say("  The build is kept; `y26hkx doctor` explains what that means.")
            break
        say(f"  It is compiled again ({instead}).")
        try:
            _compile(get_uv(), lock, instead, again=True)
        except SetupError as error:
            # The present build may still be of use.
            say(f"  Compiling failed: {error}")
            break
        build = instead
    return build


def build_options(build: Build, variables: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The options for uv and the variables that change, to compile in this way.

    uv caches a build by these options only. They contain the processor and the user's arguments, so
    a binary for another machine, or with other arguments, is never reused.
    """
    compiler = wrong_amx(variables)
    defines = dict(DEFINES.get(build, {}))
    arguments = variables.get("CMAKE_ARGS", "")
    if compiler:
        say(f"  {compiler} compiles AMX wrongly (GCC PR 114098): compiling without AMX")
        for define, variable in FLAGS.items():
            defines[define] = f"{variables.get(variable, '')} {WITHOUT_AMX}".strip()
        arguments = _with_flags(arguments)
    processor = "" if build == "portable" else features_digest()
    made_by = (processor, arguments, variables.get("CXX", ""), LEFT_OUT.read_bytes())
    defines["Y26HKX_MADE_BY"] = hashlib.sha256(repr(made_by).encode()).hexdigest()[:12]
    # Not among the options, so that another checkout takes the same build.
    include = shlex.quote(f"-DCMAKE_PROJECT_INCLUDE={LEFT_OUT.as_posix()}")
    changed = {"CMAKE_ARGS": f"{include} {arguments}".strip()}
    settings = (f"cmake.define.{name}={value}" for name, value in defines.items())
    return [word for setting in settings for word in ("--config-setting", setting)], changed


def _compile(uv: Uv, lock: Lock, build: Build, *, again: bool) -> None:
    package = next(p for p in lock.packages if p.name == NAME)
    n_cpus = os.cpu_count() or 1
    n_minutes = CPU_MINUTES_PORTABLE if build == "portable" else CPU_MINUTES
    minutes = max(1, round(n_minutes / n_cpus))
    hint = f"with {n_cpus} CPUs this takes about {minutes} minutes, once"
    with Step(f"compiling {NAME} {package.version}", hint=hint) as step:
        options, changed = build_options(build, uv.env)
        env = {"CMAKE_BUILD_PARALLEL_LEVEL": str(n_cpus), **uv.env, **changed}
        if again:
            options += ["--reinstall-package", NAME]
        # The build tools are locked, too.
        command = uv.install(*options, "--build-constraints", LOCK, "-r", "-")
        step.call(command, env, package.text)
    drop_second_copy(VENV)
    if build == "portable" and wrong_amx(uv.env):
        drop_amx(VENV)


def drop_second_copy(venv: Path) -> None:
    """Remove what the package installs for programs in C: its libraries once more, 37 MB."""
    for libraries in venv.rglob("site-packages/lib"):
        if any(libraries.glob("*llama*")):
            shutil.rmtree(libraries)
            shutil.rmtree(libraries.parent / "include", ignore_errors=True)


def drop_amx(venv: Path) -> None:
    """Remove the code for AMX that a compiler got wrong: such processors use that for AVX-512."""
    for library in venv.rglob(f"site-packages/llama_cpp/lib/{AMX_VARIANT}"):
        library.unlink()


def _with_flags(arguments: str) -> str:
    """The user's arguments for CMake. They come before ours, so flags in them get ours appended."""
    words = shlex.split(arguments)
    named = tuple(f"-D{define}" for define in FLAGS)
    ends = ("=", ":STRING=")
    flags = tuple(name + end for name in named for end in ends)
    return shlex.join(f"{w} {WITHOUT_AMX}" if w.startswith(flags) else w for w in words)


def _selftest(python: Path, variables: Mapping[str, str]) -> int:
    with Step("testing llama.cpp on this processor"):
        return run([python, "-m", "cli", "selftest", "--brief"], variables)
