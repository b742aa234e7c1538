"""Tells why a load failed, and what the user can do about it.

Native libraries say "out of memory" only in their texts, each in its own words; `oom_signs.py`
reads those. The texts themselves go to the log, never to a client.
"""

import sys
from collections.abc import Sequence

from common.errors import BackendLoadFailed, ServingError
from common.sizes import mib
from worker_runtime.engine_process.interface import ExitReport
from worker_runtime.memory.insufficient import Holder, holders_metadata, holders_text
from worker_runtime.memory.oom_signs import SHORTAGES, Shortage, shortage_in_text, shortage_of

_PAGE_FILE = (
    "enlarge the page file to 16 GB or more (System > Advanced > Performance > Virtual memory)"
)
_LESS_BY_BACKEND = {
    "llama.cpp": (
        "use a smaller or a more strongly quantized GGUF file, such as Q4_K_M",
        "lower MAX_INPUT_TOKENS",
    ),
    "transformers": (
        "use llama.cpp with a Q4_K_M GGUF file (MODEL_BACKEND=llama.cpp)",
        "load it in 4 bits (MODEL_QUANTIZATION=4bit)",
        "switch compilation off (COMPILE_MODEL=0)",
        "lower MAX_INPUT_TOKENS",
    ),
}


def out_of_memory(backend: str, shortage: Shortage = "memory") -> BackendLoadFailed:
    """The load failed for lack of memory or page file; "" is a backend not known here."""
    where = "memory on the GPU" if shortage == "gpu_memory" else "memory or page file"
    why = f"not enough {where}"
    if shortage == "killed":
        why = f"its process was killed, as systems do where there is {why}"
    return BackendLoadFailed(
        f"the model could not be loaded: {why}",
        suggestions=_more_memory(backend, shortage) if backend else (),
        metadata={"backend": backend, "cause": "memory", "reason": shortage},
    )


def is_out_of_memory(error: ServingError) -> bool:
    """Whether the load failed for lack of memory, so that a smaller one may work."""
    return isinstance(error, BackendLoadFailed) and error.metadata.get("cause") == "memory"


def with_arithmetic(
    error: ServingError, need_bytes: int, available_bytes: int, holders: Sequence[Holder]
) -> ServingError:
    """`error` with what the load needed, what there was, and what other models hold."""
    numbers = {"needed": need_bytes, "available": available_bytes}
    numbers |= {"held": sum(holder.bytes for holder in holders)}
    return type(error)(
        f"{error.message}; it needs about {mib(need_bytes)}, {mib(available_bytes)} are "
        f"available; {holders_text(holders)}",
        suggestions=error.suggestions,
        metadata=error.metadata
        | {f"{name}_bytes": str(n) for name, n in numbers.items()}
        | holders_metadata(holders),
    )


def load_failed(backend: str, reason: str) -> BackendLoadFailed:
    """The load failed for another reason; `reason` is fit for clients."""
    return BackendLoadFailed(
        f"the model could not be loaded: {reason}", metadata={"backend": backend}
    )


def died_while_loading(backend: str, report: ExitReport) -> BackendLoadFailed:
    """The process ended before the model was loaded."""
    said = (
        shortage for line in report.stderr_tail if (shortage := shortage_in_text(line)) is not None
    )
    shortage = next(said, report.shortage)
    if shortage is not None:
        return out_of_memory(backend, shortage)
    return load_failed(backend, f"its process ended while loading ({report})")


def raised_while_loading(backend: str, error: Exception) -> BackendLoadFailed:
    """The engine's `load` raised something that is not a `ServingError`."""
    if (shortage := shortage_of(error)) is not None:
        return out_of_memory(backend, shortage)
    if isinstance(error, OSError):
        number = getattr(error, "winerror", None) or error.errno
        return load_failed(backend, f"its files could not be read (error {number})")
    return load_failed(backend, f"the backend refused it ({type(error).__name__}, see the log)")


def completed(backend: str, error: BackendLoadFailed) -> BackendLoadFailed:
    """What an engine reported, completed with what only this side knows."""
    if is_out_of_memory(error):
        return out_of_memory(backend, _shortage(error))
    error.metadata = error.metadata | {"backend": backend}
    return error


def _shortage(error: ServingError) -> Shortage:
    return next(
        (shortage for shortage in SHORTAGES if shortage == error.metadata.get("reason")), "memory"
    )


def _more_memory(backend: str, shortage: Shortage) -> tuple[str, ...]:
    if shortage == "gpu_memory":
        room = "close other programs that use the GPU"
    elif sys.platform == "win32":
        room = _PAGE_FILE
    else:
        room = "close other programs or add swap space"
    return room, *_LESS_BY_BACKEND.get(backend, ("use a smaller model",))
