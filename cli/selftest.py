"""`y26hkx selftest`: whether llama.cpp computes correctly on this processor.

The exit status is 0 if it does, 1 if it does not at all, 2 if it could not be tested, and 3 if it
does only without its extra CPU buffers.
"""

import json
import sys
from collections.abc import Iterator

import msgspec
from pydantic import ValidationError

from worker_runtime.machine.kernel_memory import FILE, Fault, KernelMemory
from worker_runtime.machine.kernel_report import KernelReport, NotTested
from worker_runtime.machine.processor import read_processor
from worker_runtime.settings import RuntimeSettings

OK, BROKEN, NOT_TESTED, WITHOUT_EXTRA_BUFFERS = 0, 1, 2, 3


def selftest(*, as_json: bool, again: bool, brief: bool = False) -> int:
    """Print the result for this library and processor, and return the exit status.

    The test runs if there is no stored result.

    Args:
        again: discard the stored result, and test.
        brief: print one line only.
    """
    try:
        # Loopback, as in the stack.
        memory = kernel_memory(RuntimeSettings(host="127.0.0.1"))
        report = memory.report(again=again)
    except (NotTested, ValidationError) as reason:
        sys.stderr.write(f"{reason}\n")
        return NOT_TESTED
    faults = memory.read().faults
    if as_json:
        sys.stdout.write(json.dumps(as_dict(report, faults), indent=2) + "\n")
    else:
        lines = [report.summary] if brief else as_text(report, faults)
        sys.stdout.writelines(f"{line}\n" for line in lines)
    if not report.runs_here:
        return BROKEN
    return OK if report.may_use_extra_buffers else WITHOUT_EXTRA_BUFFERS


def kernel_memory(settings: RuntimeSettings) -> KernelMemory:
    """The stored results, as workers with these settings read and write them."""
    return KernelMemory(settings.learnt_dir / FILE, settings.selftest_environment)


def as_dict(report: KernelReport, faults: dict[str, Fault]) -> dict[str, object]:
    """The result for scripts; the keys never change."""
    verdict = {
        "runs_here": report.runs_here,
        "may_use_extra_buffers": report.may_use_extra_buffers,
        "summary": report.summary,
        "features": list(read_processor().features),
        "models_without_extra_buffers": msgspec.to_builtins(list(faults.values())),
    }
    tested: dict[str, object] = msgspec.to_builtins(report)
    return verdict | tested


def as_text(report: KernelReport, faults: dict[str, Fault]) -> Iterator[str]:
    """The result as lines for people."""
    yield f"processor  {report.processor}"
    yield f"           {' '.join(read_processor().features)}"
    yield f"library    {report.system_info}"
    for trial in (*report.plain.trials, *report.extra.trials):
        yield f"{trial.type:<10} {trial.buffer:<16} off by {trial.error:.4f}"
    for fault in faults.values():
        yield f"{fault.model} is loaded without extra CPU buffers: its process died ({fault.how})"
    yield f"{report.summary} ({report.took_s:.1f} s)"
