"""What set-up removes from .venv, and that the packages still work without it."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from bootstrap.settings import ROOT, Settings
from bootstrap.unused_files import remove

GUIDE = ROOT / "models/guide/qwen2-y26hkx-guide.gguf"
PACKAGES = Path(sysconfig.get_path("purelib"))
CONVERTS = """
import numpy, numpy.testing, openvino, torch
class Twice(torch.nn.Module):
    def forward(self, x):
        return x * 2
import warnings
warnings.simplefilter("ignore")
model = openvino.convert_model(Twice(), example_input=torch.ones(2))
compiled = openvino.Core().compile_model(model, "CPU")
print(compiled(numpy.ones(2, numpy.float32))[0].tolist(), openvino.__file__)
"""
LOADS = """
import sys, llama_cpp
model = llama_cpp.Llama(sys.argv[1], n_ctx=64, verbose=False)
print(model("What", max_tokens=1)["usage"]["completion_tokens"], llama_cpp.__file__)
"""


@pytest.fixture(scope="module")
def trimmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of this environment from which most is removed, without what is not used."""
    packages = tmp_path_factory.mktemp("venv") / "lib/site-packages"
    for name in ("numpy", "numpy.libs", "openvino", "llama_cpp"):
        if (PACKAGES / name).is_dir():
            shutil.copytree(PACKAGES / name, packages / name, copy_function=_link)
    remove(packages.parents[1])
    return packages


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        # On another file system.
        shutil.copy2(source, target)


def _python(code: str, packages: Path, *arguments: str | Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=Settings.read().variables | {"PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, _, file = done.stdout.strip().rpartition(" ")
    assert Path(file).is_relative_to(packages)
    return said.split()


def test_openvino_still_converts_and_computes(trimmed: Path) -> None:
    pytest.importorskip("torch")
    assert not list(trimmed.rglob("*onnx_frontend*.so*"))
    assert _python(CONVERTS, trimmed) == ["[2.0,", "2.0]"]


def test_llama_cpp_still_answers(trimmed: Path) -> None:
    assert _python(LOADS, trimmed, GUIDE) == ["1"]


def test_tests_go_and_other_folders_stay(tmp_path: Path) -> None:
    packages = tmp_path / "lib/python3.11/site-packages"
    kept = [packages / "numpy/testing/a.py", packages / "numpy/core/a.py", packages / "tests.py"]
    gone = [packages / "numpy/core/tests/a.py", packages / "jsonschema/tests/a.py"]
    for file in (*kept, *gone):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    remove(tmp_path)
    assert [file.exists() for file in kept] == [True] * 3
    assert not any(file.parent.exists() for file in gone)
    remove(tmp_path)


def test_equal_libraries_are_stored_once_and_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "site-packages/llama_cpp/lib"
    folder.mkdir(parents=True)
    for name, content in {"a.so": b"1", "a.so.0": b"1", "b.so": b"2"}.items():
        (folder / name).write_bytes(content)
    remove(tmp_path)
    assert (folder / "a.so").samefile(folder / "a.so.0")
    assert (folder / "b.so").read_bytes() == b"2"


def test_a_library_that_cannot_be_linked_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site-packages/llama_cpp/lib"
    folder.mkdir(parents=True)
    for name in ("a.so", "a.so.0"):
        (folder / name).write_bytes(b"1")

    def refuse(*_: object) -> None:
        raise OSError("links are not supported")

    monkeypatch.setattr("os.link", refuse)
    remove(tmp_path)
    assert (folder / "a.so.0").read_bytes() == b"1"
