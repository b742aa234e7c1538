"""Which libraries the backends need, whether they are installed, and how to install them.

The default set-up brings llama.cpp and OpenVINO only, as torch takes more than a gigabyte. A model
that needs another library is listed with the reason why it cannot be loaded.
"""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import msgspec

from worker_runtime.catalog import ModelEntry

PROJECT = Path(__file__).parent.parent


class Libraries(NamedTuple):
    """The modules that a backend imports, and the extra of this package that brings them."""

    modules: tuple[str, ...]
    extra: str


OF_BACKENDS = {
    "llama.cpp": Libraries(("llama_cpp",), "llama"),
    "transformers": Libraries(("torch", "transformers"), "transformers"),
    "openvino": Libraries(("openvino",), "openvino"),
    "sentence-transformers": Libraries(("torch", "sentence_transformers"), "embed"),
    "remote": Libraries(("httpx",), "remote"),
    "cross-encoder": Libraries(("torch", "transformers"), "embed"),
    "causal-reranker": Libraries(("torch", "transformers"), "embed"),
    "llama.cpp-reranker": Libraries(("llama_cpp",), "llama"),
    "static": Libraries(("tokenizers", "numpy"), "openvino"),
}


def marked_if_missing(entry: ModelEntry, backend: str) -> ModelEntry:
    """The entry, marked as one that cannot be loaded if a library of `backend` is missing."""
    if entry.broken or not (missing := missing_modules(backend)):
        return entry
    reason = f"it needs {' and '.join(missing)}, not installed here"
    command = install_command(OF_BACKENDS[backend].extra)
    return msgspec.structs.replace(entry, broken=f"{reason}: {command}", remedy=command)


def missing_modules(backend: str) -> tuple[str, ...]:
    """The modules of a backend that are not installed; of backends of third parties none."""
    libraries = OF_BACKENDS.get(backend)
    return (
        tuple(m for m in libraries.modules if importlib.util.find_spec(m) is None)
        if libraries
        else ()
    )


def install_command(extra: str) -> str:
    """The command that installs an extra, in a checkout or for an installed package."""
    if (PROJECT / "run.py").is_file():
        return f"python3 run.py setup {extra}"
    return f"pip install 'y26hkx[{extra}]'"
