"""Remembers whether llama.cpp's kernels work on this processor: the self-test's report, and models
that crashed with the extra CPU buffers and work without them.

All workers of a user share one small file, with an entry per library and processor. After one of
these has changed, everything is tested again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import filelock
import msgspec

from worker_runtime.lifecycle.load_options import LoadOption, LoadOptions
from worker_runtime.machine.kernel_report import KernelReport, NotTested, identity, run_selftest

FILE = "kernels.json"
MAX_KNOWN, MAX_MODELS = 16, 256
MAX_FILE_BYTES = 1 << 20
LOCK_S = 0.2

log = logging.getLogger(__name__)


class Fault(msgspec.Struct, frozen=True):
    """How a model's process died, such as "signal 11 SIGSEGV"."""

    model: str
    how: str


class Known(msgspec.Struct):
    """What is known about one library on one processor.

    Args:
        faults: models that crashed with extra buffers and work without them, by fingerprint.
    """

    report: KernelReport | None = None
    faults: dict[str, Fault] = {}


class Kernels(Protocol):
    """Kernel faults, which the owner of a model asks about before a load and reports afterwards."""

    async def allowed(self, options: Sequence[LoadOption]) -> Sequence[LoadOption]:
        """`options`, without extra buffers where those are known to fail."""

    def broke_down(self, option: LoadOption, how: str) -> None:
        """Report that the option's process died of a fault during its load or its first request."""

    def loaded(self, option: LoadOption) -> None:
        """Report that the option was loaded and has computed."""


class NoKernels:
    """For workers without llama.cpp."""

    async def allowed(self, options: Sequence[LoadOption]) -> Sequence[LoadOption]:
        return options

    def broke_down(self, option: LoadOption, how: str) -> None:
        """Do nothing: there are no kernels to remember."""

    def loaded(self, option: LoadOption) -> None:
        """Do nothing: there are no kernels to remember."""


class KernelMemory:
    """Remembers results in a file, and runs the self-test where there is none.

    Args:
        file: remembers the results; it is created with the first one.
        environment: returns the environment of the self-test's processes.
    """

    def __init__(self, file: Path, environment: Callable[[], Mapping[str, str]]) -> None:
        self._file = file
        self._environment = environment
        self._lock = filelock.FileLock(file.with_suffix(".lock"))
        # Models that crashed, with the cause; saved when they have been loaded without extra
        # buffers.
        self._suspects: dict[str, Fault] = {}

    async def allowed(self, options: Sequence[LoadOption]) -> Sequence[LoadOption]:
        if all(option.plain_spec is None for option in options):
            return options
        try:
            await asyncio.to_thread(self.report)
        except NotTested as reason:
            log.warning("llama.cpp was not tested on this processor: %s", reason)
        return self.known(options)

    def broke_down(self, option: LoadOption, how: str) -> None:
        if option.plain_spec is not None:
            self._suspects[option.entry.fingerprint] = Fault(option.entry.id, how)

    def loaded(self, option: LoadOption) -> None:
        fingerprint = option.entry.fingerprint
        if option.plain_spec is not None or fingerprint not in self._suspects:
            return
        fault = self._suspects.pop(fingerprint)

        def add(known: Known) -> None:
            known.faults = dict([*known.faults.items(), (fingerprint, fault)][-MAX_MODELS:])

        self._change(add)

    def report(self, *, again: bool = False) -> KernelReport:
        """The report of the self-test, which is run now if there is no report yet.

        Args:
            again: forget what is known about this library and processor, and run the test.
        Raises:
            NotTested: the test could not be run.
        """
        found = None if again else self.read().report
        if found is not None:
            return found
        made = run_selftest(self._environment())
        level = logging.INFO if made.may_use_extra_buffers and made.runs_here else logging.WARNING
        log.log(level, "self-test on %s: %s (%.1f s)", made.processor, made.summary, made.took_s)

        def change(known: Known) -> None:
            known.report = made
            if again:
                known.faults = {}

        self._change(change)
        return made

    def read(self) -> Known:
        """What is known about this library on this processor."""
        return self._read_all().get(identity(), Known())

    def applied(self, load_options: LoadOptions) -> LoadOptions:
        """`load_options` as they would be allowed now, for callers that load nothing."""
        return lambda entry: self.known(load_options(entry))

    def known(self, options: Sequence[LoadOption]) -> Sequence[LoadOption]:
        """Like `allowed`, but from what is known already, without running the test."""
        known = self.read()
        if known.report is not None and not known.report.may_use_extra_buffers:
            return [option.without_extra_buffers() for option in options]
        avoid = known.faults.keys() | self._suspects.keys()
        return [
            option.without_extra_buffers() if option.entry.fingerprint in avoid else option
            for option in options
        ]

    def _read_all(self) -> dict[str, Known]:
        try:
            with self._file.open("rb") as file:
                return msgspec.json.decode(file.read(MAX_FILE_BYTES), type=dict[str, Known])
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            # The file is missing or not in our format; the next result writes a new one.
            return {}

    def _change(self, change: Callable[[Known], None]) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._lock.acquire(timeout=LOCK_S, poll_interval=0.01):
                every = self._read_all()
                # The newest entry is last, because the oldest are dropped when there are too many.
                known = every.pop(identity(), Known())
                change(known)
                kept = dict([*every.items(), (identity(), known)][-MAX_KNOWN:])
                fresh = self._file.with_suffix(".new")
                fresh.write_bytes(msgspec.json.encode(kept))
                with contextlib.suppress(PermissionError):
                    # On Windows this fails while another process reads the file; a later result
                    # saves it.
                    fresh.replace(self._file)
        except (OSError, filelock.Timeout) as failure:
            log.warning("results about llama.cpp's kernels were not saved: %s", failure)
