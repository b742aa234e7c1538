"""Tells why a load failed, and what the user can do about it.

Native libraries say "out of memory" only in their texts, each in its own words; this is the one
place that reads those. The texts themselves go to the log, never to a client.
"""

import re
import sys

from protos.errors import BackendLoadFailed
from worker_runtime.launcher import ExitReport

_OUT_OF_MEMORY = re.compile(
    r"out of memory|MemoryError|bad_alloc|paging file|page ?file|\b1455\b|not enough memory"
    r"|cannot allocate|can't allocate|failed to allocate|unable to allocate|ENOMEM"
    r"|DefaultCPUAllocator|分頁檔|页面文件|分页文件|內存不足|内存不足|記憶體不足",
    re.IGNORECASE,
)
# Windows: the paging file is too small; not enough memory resources.
OUT_OF_MEMORY_NUMBERS = frozenset({1455, 8, 14, 12})


def smells_of_memory(text: str) -> bool:
    """Whether an error's text speaks of memory or page file."""
    return _OUT_OF_MEMORY.search(text) is not None


def out_of_memory(backend: str) -> BackendLoadFailed:
    """The load failed for lack of memory or page file; "" is a backend not known here."""
    return BackendLoadFailed(
        "the model could not be loaded: not enough memory or page file",
        suggestions=_more_memory(backend) if backend else (),
        metadata={"backend": backend, "cause": "memory"},
    )


def load_failed(backend: str, reason: str) -> BackendLoadFailed:
    """The load failed for another reason; `reason` is fit for clients."""
    return BackendLoadFailed(
        f"the model could not be loaded: {reason}", metadata={"backend": backend}
    )


def died_while_loading(backend: str, report: ExitReport) -> BackendLoadFailed:
    """The process ended before the model was loaded."""
    if report.looks_out_of_memory or any(map(smells_of_memory, report.last_words)):
        return out_of_memory(backend)
    return load_failed(backend, f"its process ended while loading ({report})")


def raised_while_loading(backend: str, error: Exception) -> BackendLoadFailed:
    """The engine's `load` raised something that is not a `ServingError`."""
    if isinstance(error, MemoryError) or smells_of_memory(f"{type(error).__name__}: {error}"):
        return out_of_memory(backend)
    if isinstance(error, OSError):
        number = getattr(error, "winerror", None) or error.errno
        if number in _numbers():
            return out_of_memory(backend)
        return load_failed(backend, f"its files could not be read (error {number})")
    return load_failed(backend, f"the backend refused it ({type(error).__name__}, see the log)")


def explained(backend: str, error: BackendLoadFailed) -> BackendLoadFailed:
    """What an engine reported, completed with what only this side knows."""
    if error.metadata.get("cause") == "memory" and not error.suggestions:
        return out_of_memory(backend)
    error.metadata = error.metadata | {"backend": backend}
    return error


def _numbers() -> frozenset[int]:
    # On POSIX 8 and 14 are other errors; 12 is ENOMEM.
    return OUT_OF_MEMORY_NUMBERS if sys.platform == "win32" else frozenset({12})


def _more_memory(backend: str) -> tuple[str, ...]:
    page_file = (
        "enlarge the page file to 16 GB or more (System > Advanced > Performance > Virtual memory)",
    )
    llama = (
        "use llama.cpp with a Q4_K_M GGUF file (MODEL_BACKEND=llama.cpp)",
        "load it in 4 bits (MODEL_QUANTIZATION=4bit)",
        "switch compilation off (COMPILE_MODEL=0)",
    )
    smaller = ("use a smaller or a more strongly quantized GGUF file, such as Q4_K_M",)
    return (
        *(page_file if sys.platform == "win32" else ("close other programs or add swap space",)),
        *(llama if backend == "transformers" else smaller),
        "lower MAX_INPUT_TOKENS",
    )
