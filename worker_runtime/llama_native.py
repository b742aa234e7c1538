"""Imports llama-cpp-python without its high-level classes, and keeps llama.cpp's log private.

`import llama_cpp` takes half a second for classes that are not used here, so only the module that
declares the C functions is imported.
"""

import contextlib
import ctypes
import importlib
import importlib.util
import os
import sys
import types
from collections import deque
from pathlib import Path
from typing import Any

_recent: deque[str] = deque(maxlen=50)
_callbacks: list[Any] = []  # ctypes callbacks must outlive their registration
LEVEL_ERROR = 4  # GGML_LOG_LEVEL_ERROR
# The files with the code for one kind of processor each.
VARIANTS = "*ggml-cpu-*"


def load_native() -> Any:
    """The module with llama.cpp's C functions, initialised and with its log captured.

    Raises:
        ImportError, OSError, RuntimeError: llama-cpp-python or its library is missing or broken.
    """
    if "llama_cpp" not in sys.modules:
        spec = importlib.util.find_spec("llama_cpp")
        if spec is None or spec.submodule_search_locations is None:
            raise ImportError("llama-cpp-python is not installed")
        package = types.ModuleType("llama_cpp")
        package.__path__ = list(spec.submodule_search_locations)
        package.__spec__ = spec
        sys.modules["llama_cpp"] = package
    native = importlib.import_module("llama_cpp.llama_cpp")
    if not _callbacks:
        callback = native.llama_log_callback(_on_log)
        _callbacks.append(callback)
        native.llama_log_set(callback, ctypes.c_void_p(0))
        _load_backends(native)
        native.llama_backend_init()
    return native


def ggml_function(native: Any, name: str) -> Any:
    """A C function of the ggml that llama.cpp itself uses, without its types.

    A package may have the same library under several names. Loaded by another name than llama.cpp
    links to, it is a second one, whose backends llama.cpp does not know.

    Raises:
        AttributeError: there is none of that name.
    """
    if sys.platform != "win32":
        # A library's symbols include those of the libraries that it links to.
        return native._lib[name]  # noqa: SLF001 - no other name for it is sure to be the same
    for path in _folder(native).glob("*ggml*.dll"):
        if path.stem.removeprefix("lib") in ("ggml", "ggml-base"):
            with contextlib.suppress(AttributeError):
                return ctypes.CDLL(str(path))[name]
    raise AttributeError(f"llama.cpp has no function {name}")


def _folder(native: Any) -> Path:
    """The folder of llama.cpp's libraries."""
    return Path(native.__file__).parent / "lib"


def _load_backends(native: Any) -> None:
    """Load the code for this processor, where the library has code for several: a portable build.

    A library that was compiled for one processor has its code built in.
    """
    folder = _folder(native)
    if any(folder.glob(VARIANTS)):
        load_from = ggml_function(native, "ggml_backend_load_all_from_path")
        load_from.restype, load_from.argtypes = None, (ctypes.c_char_p,)
        # llama.cpp would look beside Python's own program otherwise.
        load_from(os.fsencode(folder))


def recent_errors() -> str:
    """llama.cpp's last error lines, for finding the cause of a failure; never sent to a client."""
    return "\n".join(_recent)


def _on_log(level: int, text: bytes, _user: Any) -> None:
    if level == LEVEL_ERROR:
        line = text.decode("utf-8", "replace").rstrip()
        _recent.append(line)
        print(line, file=sys.stderr)  # noqa: T201 - the engine's stderr is its log
