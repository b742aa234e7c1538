"""How llama.cpp is compiled: without AMX by compilers that get it wrong; anew where it fails."""

import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from bootstrap import llama_build
from bootstrap.compilers import WITHOUT_AMX, makes_wrong_amx, wrong_amx
from bootstrap.llama_wheel import FOR_PROGRAMS, copy_without
from bootstrap.lock import Lock
from bootstrap.processor import digest_of
from bootstrap.settings import SetupError

GCC_12_2 = "#define __GNUC__ 12\n#define __GNUC_MINOR__ 2\n#define __x86_64__ 1\n"
CPUINFO = "processor\t: 0\nflags\t\t: {}\n\nprocessor\t: 1\nflags\t\t: none\n"


def compiler(folder: Path, macros: str) -> dict[str, str]:
    """Variables that name a compiler which says so of itself."""
    script = folder / "compiler"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{macros}END\n")
    script.chmod(0o755)
    return {"CXX": str(script)}


def defines(options: Iterable[str]) -> dict[str, str]:
    """What CMake is told by them."""
    settings = [option for option in options if option != "--config-setting"]
    pairs = (setting.removeprefix("cmake.define.").partition("=") for setting in settings)
    return {name: value for name, _, value in pairs}


@pytest.mark.parametrize("version", [(11, 4), (12, 2), (12, 3), (13, 0), (13, 2)])
def test_these_versions_of_gcc_make_wrong_code_for_amx(version: tuple[int, int]) -> None:
    assert makes_wrong_amx(version)


@pytest.mark.parametrize("version", [(10, 2), (12, 4), (12, 5), (13, 3), (14, 0), (15, 1)])
def test_these_do_not(version: tuple[int, int]) -> None:
    assert not makes_wrong_amx(version)


@pytest.mark.skipif(sys.platform == "win32", reason="a compiler made of a shell script")
def test_a_compiler_is_known_by_what_it_defines(tmp_path: Path) -> None:
    assert wrong_amx(compiler(tmp_path, GCC_12_2)) == "GCC 12.2"
    assert wrong_amx(compiler(tmp_path, GCC_12_2 + "#define __clang__ 1\n")) == ""
    assert wrong_amx(compiler(tmp_path, GCC_12_2.replace("x86_64", "aarch64"))) == ""
    named = {"CMAKE_ARGS": f"-DCMAKE_CXX_COMPILER={tmp_path / 'compiler'}", "CXX": "c++"}
    compiler(tmp_path, GCC_12_2)
    assert wrong_amx(named) == "GCC 12.2"
    assert wrong_amx({"CXX": str(tmp_path / "none")}) == ""


def test_with_these_flags_the_compiler_here_defines_no_amx() -> None:
    gcc = shutil.which("g++")
    if gcc is None:
        pytest.skip("there is no g++")
    command = [gcc, "-march=sapphirerapids", "-dM", "-E", "-x", "c++", os.devnull]
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    if "__AMX_INT8__" not in plain.stdout:
        pytest.skip(f"g++ knows no AMX here: {plain.stderr.strip()[:80]}")
    # In either order, as CMake puts a target's own flags last.
    for flags in ([*WITHOUT_AMX.split(), *command[1:]], [*command[1:], *WITHOUT_AMX.split()]):
        without = subprocess.run([gcc, *flags], capture_output=True, text=True, check=True)
        assert "AMX" not in without.stdout
        assert "__AVX512VNNI__" in without.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="a compiler made of a shell script")
def test_such_a_compiler_gets_the_flags_beside_the_users_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    user = {"CXXFLAGS": "-g", "CMAKE_ARGS": "-DGGML_BLAS=ON '-DCMAKE_C_FLAGS=-O2 -g'"}
    options, changed = llama_build.build_options("native", user | compiler(tmp_path, GCC_12_2))
    assert defines(options)["CMAKE_CXX_FLAGS"] == f"-g {WITHOUT_AMX}"
    assert "GGML_NATIVE" not in defines(options)
    words = shlex.split(changed["CMAKE_ARGS"])
    assert words[1:] == ["-DGGML_BLAS=ON", f"-DCMAKE_C_FLAGS=-O2 -g {WITHOUT_AMX}"]
    assert "GCC 12.2" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="a compiler made of a shell script")
def test_others_get_none_and_the_users_arguments_stay(tmp_path: Path) -> None:
    user = compiler(tmp_path, "#define __GNUC__ 14\n#define __x86_64__ 1\n")
    options, changed = llama_build.build_options("plain", user | {"CMAKE_ARGS": "-DX=1"})
    assert shlex.split(changed["CMAKE_ARGS"])[1:] == ["-DX=1"]
    assert defines(options).keys() == {"GGML_NATIVE", "Y26HKX_MADE_BY"}
    assert defines(options)["GGML_NATIVE"] == "OFF"


def test_what_was_built_with_other_arguments_is_not_taken_for_this() -> None:
    made = [
        defines(llama_build.build_options("native", {"CMAKE_ARGS": arguments})[0])["Y26HKX_MADE_BY"]
        for arguments in ("", "-DGGML_NATIVE=OFF")
    ]
    assert made[0] != made[1]


def test_the_processor_is_known_by_what_compilers_use() -> None:
    avx = digest_of(CPUINFO.format("fpu avx2 ibpb fma"))
    assert avx == digest_of(CPUINFO.format("fma avx2 fpu"))
    assert avx != digest_of(CPUINFO.format("fpu avx2 fma amx_int8"))


def test_what_is_left_out_is_named_by_a_path_that_the_build_does_not_depend_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options, changed = llama_build.build_options("portable", {})
    (include,) = shlex.split(changed["CMAKE_ARGS"])
    assert include == f"-DCMAKE_PROJECT_INCLUDE={llama_build.LEFT_OUT.as_posix()}"
    copy = tmp_path / "another checkout" / "llama_build.cmake"
    copy.parent.mkdir()
    shutil.copy(llama_build.LEFT_OUT, copy)
    monkeypatch.setattr(llama_build, "LEFT_OUT", copy)
    again, changed = llama_build.build_options("portable", {})
    assert again == options
    assert shlex.split(changed["CMAKE_ARGS"]) == [f"-DCMAKE_PROJECT_INCLUDE={copy.as_posix()}"]


class Builds:
    """Stands for the compiles, which take minutes; self-tests give the statuses one by one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *statuses: int) -> None:
        self.made: list[str] = []
        self._statuses = list(statuses)
        monkeypatch.setattr(llama_build, "_selftest", lambda *_: self._statuses.pop(0))
        monkeypatch.setattr(llama_build, "_compile", self._compile)
        monkeypatch.setattr(llama_build, "has_compiler", lambda: True)

    def _compile(self, _uv: object, _lock: Lock, build: str, *, again: bool) -> None:
        assert again, "what is there is installed anew"
        self.made.append(build)

    def test(self, build: str, *, thorough: bool = True) -> str:
        python, lock = Path(sys.executable), Lock.read()
        return llama_build.test(lambda: None, lock, python, {}, build, thorough=thorough)  # type: ignore[arg-type,return-value]


def test_what_computes_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    builds = Builds(monkeypatch, 0)
    assert (builds.test("native"), builds.made) == ("native", [])


@pytest.mark.parametrize("status", [llama_build.BROKEN, llama_build.PLAIN_ONLY])
def test_what_fails_is_compiled_for_this_processor_then_for_most(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    builds = Builds(monkeypatch, status, status, 0)
    assert builds.test("wheel") == "plain"
    assert builds.made == ["native", "plain"]


def test_what_computes_with_plain_code_does_not_hold_up_a_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    builds = Builds(monkeypatch, llama_build.PLAIN_ONLY)
    assert (builds.test("native", thorough=False), builds.made) == ("native", [])


def test_a_build_that_fails_leaves_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    builds = Builds(monkeypatch, llama_build.BROKEN)

    def fail(*_: object, again: bool) -> None:
        raise SetupError("no network")

    monkeypatch.setattr(llama_build, "_compile", fail)
    assert builds.test("wheel") == "wheel"


def test_code_for_amx_that_a_compiler_got_wrong_is_removed_from_a_portable_build(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "lib/python3.11/site-packages/llama_cpp/lib"
    folder.mkdir(parents=True)
    for name in ("zen4", "sapphirerapids", "haswell"):
        (folder / f"libggml-cpu-{name}.so").touch()
    llama_build.drop_amx(tmp_path)
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["libggml-cpu-haswell.so", "libggml-cpu-zen4.so"]


def test_a_wheel_for_other_machines_is_whole_without_what_is_left_out(tmp_path: Path) -> None:
    made, target = tmp_path / "some-1.0-py3-none-any.whl", tmp_path / "dist"
    target.mkdir()
    with zipfile.ZipFile(made, "w") as wheel:
        for name in ("some.py", "lib/libx.so", "include/x.h", "some/lib/libx.so"):
            wheel.writestr(name, "x = 1")
        wheel.writestr(
            "some-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: some\nVersion: 1.0\n"
        )
        wheel.writestr(
            "some-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("some-1.0.dist-info/RECORD", "")
    copy = copy_without(made, target, [*FOR_PROGRAMS])
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--quiet", "--target"]
    subprocess.run([*command, tmp_path / "site", copy], check=True)
    left = {
        path.name for path in (tmp_path / "site").rglob("*") if path.suffix in (".py", ".so", ".h")
    }
    assert left == {"some.py", "libx.so"}
    assert not (tmp_path / "site" / "lib").exists()


def test_the_second_copy_of_the_libraries_is_removed_and_no_other_folder(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in ("lib/libllama.so", "include/llama.h", "llama_cpp/lib/libllama.so", "other/lib/x"):
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).touch()
    llama_build.drop_second_copy(tmp_path)
    left = {path.relative_to(packages).as_posix() for path in packages.rglob("*") if path.is_file()}
    assert left == {"llama_cpp/lib/libllama.so", "other/lib/x"}
