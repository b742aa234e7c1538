"""Runs llama.cpp's self-test (`kernel_selftest.py`) and reports whether its matrix products are
correct on this processor.

The test runs twice, each time in a process of its own: with weights in the file's order, and with
weights that the CPU backend reorders (its extra buffers: AMX, repacked, KleidiAI). This module does
not import llama.cpp.
"""

import hashlib
import importlib.util
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from worker_runtime.engine_process.interface import ExitReport, signal_name
from worker_runtime.machine.processor import read_processor

MODULE = "worker_runtime.machine.kernel_selftest"
PROJECT = Path(__file__).parent.parent
WITHIN_S = 60.0
# Relative error. Activations in 8 bits cause up to 0.03; a wrong kernel causes 0.2 or more.
TOLERANCE = 0.1
# No gdb for a backtrace, because it stops the process for seconds.
QUIET = {"GGML_NO_BACKTRACE": "1"}

Kind = Literal["plain", "extra"]


class Trial(msgspec.Struct, frozen=True):
    """One product: its weight type, its buffer, and its error."""

    type: str
    buffer: str
    error: float


class Outcome(msgspec.Struct, frozen=True):
    """What one process computed, and why that is not good enough; empty if it is."""

    trials: tuple[Trial, ...] = ()
    failure: str = ""


class KernelReport(msgspec.Struct, frozen=True):
    """The self-test's result on one processor.

    Args:
        system_info: the instruction sets that the library was compiled for, as it writes them.
    """

    processor: str
    system_info: str
    plain: Outcome
    extra: Outcome
    took_s: float

    @property
    def runs_here(self) -> bool:
        """Whether the library works at all on this processor."""
        return not self.plain.failure

    @property
    def may_use_extra_buffers(self) -> bool:
        return self.runs_here and not self.extra.failure

    @property
    def summary(self) -> str:
        """The result in one line."""
        if self.plain.failure:
            return f"llama.cpp does not compute here: {self.plain.failure}"
        if self.extra.failure:
            return f"llama.cpp computes without its extra CPU buffers: {self.extra.failure}"
        n_types = len({trial.type for trial in self.plain.trials})
        buffers = sorted({trial.buffer for trial in self.extra.trials})
        also = f", also in {', '.join(buffers)}" if buffers else ""
        return f"llama.cpp computes {n_types} weight types rightly{also}"


class NotTested(Exception):
    """The test could not be run; the message is the reason."""


class _Line(msgspec.Struct):
    """One line of the test's output."""

    system: str = ""
    begun: tuple[str, str] | None = None
    type: str = ""
    buffer: str = ""
    error: float = 0.0
    done: bool = False


_decoder = msgspec.json.Decoder(_Line)


def identity() -> str:
    """Identifies library and processor; empty where llama-cpp-python is not installed."""
    # The package is only located, not imported.
    spec = importlib.util.find_spec("llama_cpp")
    places = spec.submodule_search_locations if spec is not None else None
    files = [path for place in places or () for path in Path(place, "lib").glob("*")]
    if not files:
        return ""
    stats = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return hashlib.sha256(repr((stats, read_processor())).encode()).hexdigest()[:16]


def run_selftest(environment: Mapping[str, str], through: Sequence[str] = ()) -> KernelReport:
    """Run the test, which takes one or two seconds.

    Args:
        environment: for the processes that run it.
        through: a command that runs another command, such as an emulator of another processor.
    Raises:
        NotTested: llama-cpp-python is missing or cannot be imported, or the time was up.
    """
    began_s = time.monotonic()
    # A timeout here means that the whole machine is slow; it proves nothing about the library.
    plain, system_info = _run("plain", environment, through)
    extra = _run("extra", environment, through)[0] if not plain.failure else Outcome()
    name = read_processor().name
    return KernelReport(name, system_info, plain, extra, round(time.monotonic() - began_s, 2))


def _run(kind: Kind, environment: Mapping[str, str], through: Sequence[str]) -> tuple[Outcome, str]:
    command = [*through, sys.executable, "-m", MODULE, kind]
    try:
        ran = subprocess.run(
            command,
            cwd=PROJECT,
            env=dict(environment) | QUIET,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=WITHIN_S,
            check=False,
        )
        code, output = ran.returncode, ran.stdout
    except subprocess.TimeoutExpired as error:
        code, output = None, error.stdout or b""
    except OSError as error:
        raise NotTested(f"the test did not start: {error}") from error
    lines = [_decoder.decode(line) for line in output.splitlines() if line.startswith(b"{")]
    trials = tuple(Trial(line.type, line.buffer, line.error) for line in lines if line.type)
    system_info = next((line.system for line in lines if line.system), "")
    failure = _failure(code, lines, trials)
    if code is None and kind == "plain":
        raise NotTested(failure)
    return Outcome(trials, failure), system_info


def _failure(code: int | None, lines: list[_Line], trials: tuple[Trial, ...]) -> str:
    wrong = next((trial for trial in trials if trial.error > TOLERANCE), None)
    if wrong is not None:
        return f"its product of {wrong.type} in {wrong.buffer} is wrong"
    if code == 0 and lines and lines[-1].done:
        return ""
    begun = next((line.begun for line in reversed(lines) if line.begun), None)
    where = f"with {begun[0]} in {begun[1]}" if begun else "while it was loaded"
    if code is None:
        return f"it took more than {WITHIN_S:.0f} s {where}"
    report = ExitReport(code, signal_name(code))
    if not report.is_fault:
        raise NotTested(f"the test ended with {report} {where}")
    return f"it died of {report} {where}"
