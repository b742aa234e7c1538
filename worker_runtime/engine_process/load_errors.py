"""Finds out why a load failed, and builds the error with suggestions for the user.

Native libraries report a lack of memory only in their messages, each in its own words, which
`oom_signs.py` recognises. The messages themselves go to the log, never to a client.
"""

import sys
from collections.abc import Sequence

from common.error_texts import ErrorText
from common.errors import BackendLoadFailed, ServingError
from common.sizes import mib
from worker_runtime.engine_process.interface import ExitReport
from worker_runtime.memory.insufficient import Holder, holders_metadata, holders_text
from worker_runtime.memory.oom_signs import SHORTAGES, Shortage, shortage_in_text, shortage_of
from worker_runtime.model_files.foreign_files import reason_of

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


def out_of_memory(backend: str, shortage: Shortage = "memory") -> BackendLoadFailed:
    """The error for a load that lacked memory or page file; `backend` "" means unknown."""
    return BackendLoadFailed(
        _LACKS[shortage],
        suggestions=_more_memory(backend, shortage) if backend else (),
        metadata={"backend": backend, "cause": "memory", "reason": shortage},
    )


def is_out_of_memory(error: ServingError) -> bool:
    """Whether the load failed for lack of memory, so that a smaller option may succeed."""
    return isinstance(error, BackendLoadFailed) and error.metadata.get("cause") == "memory"


def with_arithmetic(
    error: ServingError, need_bytes: int, available_bytes: int, holders: Sequence[Holder]
) -> ServingError:
    """`error` with the memory that was needed, that was available, and that other models hold."""
    figures = {"needed": need_bytes, "available": available_bytes}
    figures |= {"held": sum(holder.bytes for holder in holders)}
    return type(error)(
        ErrorText(
            "with_arithmetic",
            failure=error.message,
            need=mib(need_bytes),
            available=mib(available_bytes),
            loaded=holders_text(holders),
        ),
        suggestions=error.suggestions,
        metadata=error.metadata
        | {f"{name}_bytes": str(n) for name, n in figures.items()}
        | holders_metadata(holders),
    )


def load_failed(backend: str, reason: str) -> BackendLoadFailed:
    """The error for a load that failed for another reason; reasons in files exist in English
    only."""
    return BackendLoadFailed(ErrorText("load_failed", why=reason), metadata={"backend": backend})


def broke_down(error: ServingError) -> bool:
    """Whether native code died of a fault during the load."""
    return isinstance(error, BackendLoadFailed) and error.metadata.get("cause") == "fault"


def died_while_loading(backend: str, report: ExitReport) -> BackendLoadFailed:
    """The error for a process that ended before its model was loaded."""
    reported = (
        shortage for line in report.stderr_tail if (shortage := shortage_in_text(line)) is not None
    )
    shortage = next(reported, report.shortage)
    if shortage is not None:
        return out_of_memory(backend, shortage)
    failed = load_failed(backend, ErrorText("load_process_ended", how=report))
    if not report.is_fault:
        return failed
    is_llama = backend.startswith("llama.cpp")
    return BackendLoadFailed(
        failed.message,
        suggestions=(ErrorText("run_selftest"),) if is_llama else (),
        metadata={"backend": backend, "cause": "fault", "exit": str(report)},
    )


def raised_while_loading(backend: str, error: Exception) -> BackendLoadFailed:
    """The error for an engine whose `load` raised something else than a `ServingError`."""
    if (shortage := shortage_of(error)) is not None:
        return out_of_memory(backend, shortage)
    if isinstance(error, OSError):
        if error.filename:
            return load_failed(backend, reason_of(error))
        number = getattr(error, "winerror", None) or error.errno
        return load_failed(backend, ErrorText("files_unreadable", number=number))
    return load_failed(backend, ErrorText("backend_refused", kind=type(error).__name__))


def completed(backend: str, error: BackendLoadFailed) -> BackendLoadFailed:
    """The engine's error, completed with facts that only the worker knows."""
    if is_out_of_memory(error):
        return out_of_memory(backend, _shortage(error))
    error.metadata = error.metadata | {"backend": backend}
    return error


def _shortage(error: ServingError) -> Shortage:
    return next(
        (shortage for shortage in SHORTAGES if shortage == error.metadata.get("reason")), "memory"
    )


def _more_memory(backend: str, shortage: Shortage) -> tuple[ErrorText, ...]:
    if shortage == "gpu_memory":
        first = ErrorText("close_gpu_programs")
    elif sys.platform == "win32":
        first = ErrorText("enlarge_page_file")
    else:
        first = ErrorText("close_programs_or_add_swap")
    return first, *_LESS_BY_BACKEND.get(backend, (ErrorText("use_smaller_model"),))
