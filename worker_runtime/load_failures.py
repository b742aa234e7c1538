"""Tells why a load failed, and what the user can do about it.

Native libraries say "out of memory" only in their texts, each in its own words; `memory_signs.py`
reads those. The texts themselves go to the log, never to a client.
"""

import sys
from collections.abc import Sequence

from protos.error_texts import ErrorText
from protos.errors import BackendLoadFailed, ServingError
from worker_runtime.foreign_files import reason_of
from worker_runtime.launcher import ExitReport
from worker_runtime.memory_signs import LACKS, Lack, lack_of, lack_said
from worker_runtime.refusal import Holder, metadata_of, mib, said_of

_LACKS = {
    "memory": ErrorText("lack_memory"),
    "page_file": ErrorText("lack_memory"),
    "gpu_memory": ErrorText("lack_gpu_memory"),
    "killed": ErrorText("killed_for_memory"),
}
_LESS_BY_BACKEND = {
    "llama.cpp": (ErrorText("use_smaller_gguf"), ErrorText("lower_input")),
    "transformers": (
        ErrorText("use_llama_q4"),
        ErrorText("load_in_4bit"),
        ErrorText("compile_off"),
        ErrorText("lower_input"),
    ),
}


def out_of_memory(backend: str, lack: Lack = "memory") -> BackendLoadFailed:
    """The load failed for lack of memory or page file; "" is a backend not known here."""
    return BackendLoadFailed(
        _LACKS[lack],
        suggestions=_more_memory(backend, lack) if backend else (),
        metadata={"backend": backend, "cause": "memory", "reason": lack},
    )


def lacked_memory(error: ServingError) -> bool:
    """Whether the load failed for lack of memory, so that a smaller one may work."""
    return isinstance(error, BackendLoadFailed) and error.metadata.get("cause") == "memory"


def with_arithmetic(
    error: ServingError, need_bytes: int, available_bytes: int, holders: Sequence[Holder]
) -> ServingError:
    """`error` with what the load needed, what there was, and what other models hold."""
    numbers = {"needed": need_bytes, "available": available_bytes}
    numbers |= {"held": sum(holder.bytes for holder in holders)}
    return type(error)(
        ErrorText(
            "with_arithmetic",
            failure=error.message,
            need=mib(need_bytes),
            available=mib(available_bytes),
            loaded=said_of(holders),
        ),
        suggestions=error.suggestions,
        metadata=error.metadata
        | {f"{name}_bytes": str(n) for name, n in numbers.items()}
        | metadata_of(holders),
    )


def load_failed(backend: str, reason: str) -> BackendLoadFailed:
    """The load failed for another reason; what is wrong with a file is said in English alone."""
    return BackendLoadFailed(ErrorText("load_failed", why=reason), metadata={"backend": backend})


def broke_down(error: ServingError) -> bool:
    """Whether native code died of a fault while the model was loaded."""
    return isinstance(error, BackendLoadFailed) and error.metadata.get("cause") == "fault"


def died_while_loading(backend: str, report: ExitReport) -> BackendLoadFailed:
    """The process ended before the model was loaded."""
    said = (lack for line in report.last_words if (lack := lack_said(line)) is not None)
    lack = next(said, report.lack)
    if lack is not None:
        return out_of_memory(backend, lack)
    failed = load_failed(backend, ErrorText("load_process_ended", how=report))
    if not report.is_fault:
        return failed
    is_llama = backend == "llama.cpp"
    return BackendLoadFailed(
        failed.message,
        suggestions=(ErrorText("run_selftest"),) if is_llama else (),
        metadata={"backend": backend, "cause": "fault", "exit": str(report)},
    )


def raised_while_loading(backend: str, error: Exception) -> BackendLoadFailed:
    """The engine's `load` raised something that is not a `ServingError`."""
    if (lack := lack_of(error)) is not None:
        return out_of_memory(backend, lack)
    if isinstance(error, OSError):
        if error.filename:
            return load_failed(backend, reason_of(error))
        number = getattr(error, "winerror", None) or error.errno
        return load_failed(backend, ErrorText("files_unreadable", number=number))
    return load_failed(backend, ErrorText("backend_refused", kind=type(error).__name__))


def explained(backend: str, error: BackendLoadFailed) -> BackendLoadFailed:
    """What an engine reported, completed with what only this side knows."""
    if lacked_memory(error):
        return out_of_memory(backend, _lack(error))
    error.metadata = error.metadata | {"backend": backend}
    return error


def _lack(error: ServingError) -> Lack:
    return next((lack for lack in LACKS if lack == error.metadata.get("reason")), "memory")


def _more_memory(backend: str, lack: Lack) -> tuple[ErrorText, ...]:
    if lack == "gpu_memory":
        room = ErrorText("close_gpu_programs")
    elif sys.platform == "win32":
        room = ErrorText("enlarge_page_file")
    else:
        room = ErrorText("close_programs_or_add_swap")
    return room, *_LESS_BY_BACKEND.get(backend, (ErrorText("use_smaller_model"),))
