"""Removes files of packages in .venv that nothing here reads: a tenth of a default set-up.

Each package keeps everything that its import needs. An update of a package brings its files back,
and the set-up that installs it removes them again.
"""

import filecmp
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

# The tests of packages, headers for programs in C++, and the readers of model formats that
# OpenVINO gets from nobody here: its models come from torch, from itself, or are built by us.
UNUSED = (
    "*/tests",
    "numpy/*/tests",
    "openvino/cmake",
    "openvino/include",
    "openvino/libs/*openvino_gguf_frontend*",
    "openvino/libs/*openvino_jax_frontend*",
    "openvino/libs/*openvino_onnx_frontend*",
    "openvino/libs/*openvino_paddle_frontend*",
    "openvino/libs/*openvino_tensorflow_frontend*",
    "openvino/libs/*openvino_tensorflow_lite_frontend*",
    "openvino/frontend/jax/*.so",
    "openvino/frontend/onnx/*.so",
    "openvino/frontend/paddle/*.so",
    "openvino/frontend/tensorflow/*.so",
)
# Wheels have no links, so a library comes once more under each of its names.
LIBRARIES = ("llama_cpp/lib",)


def remove(venv: Path) -> None:
    """Remove what is not used from the environment `venv`, and store equal libraries once."""
    for packages in venv.rglob("site-packages"):
        for pattern in UNUSED:
            for path in packages.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in LIBRARIES:
            for first, again in _equal(packages / name):
                _link(first, again)


def _link(first: Path, again: Path) -> None:
    fresh = again.with_name(f"{again.name}.new")
    try:
        os.link(first, fresh)
    except OSError:
        # This file system has no links: the second copy stays.
        return
    os.replace(fresh, again)


def _equal(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Pairs of files with the same content that are stored twice."""
    files = sorted(folder.glob("*.so*"))
    for at, first in enumerate(files):
        for again in files[at + 1 :]:
            if not again.samefile(first) and filecmp.cmp(first, again, shallow=False):
                yield first, again
