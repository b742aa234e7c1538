"""The interface of an engine process, which the lifecycle and the servicers use."""

import signal
import sys
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from worker_runtime.memory.oom_signs import WINDOWS_STATUS, Shortage

if TYPE_CHECKING:
    from worker_runtime.catalog import ModelEntry

# The exit code with which a shell reports SIGKILL.
SHELL_SAYS_KILLED = 128 + 9

# Signals that mean a fault in a program or its compilation: invalid addresses, instructions that
# this processor does not have, failed assertions.
FAULTS = frozenset({"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"})
# Windows: exception statuses begin with these bits; the status of Ctrl-C is not a fault.
WINDOWS_EXCEPTION = 0xC0000000
WINDOWS_CTRL_C = 0xC000013A
WINDOWS_ABORT = 3

OnProgress = Callable[[float, str], None]


class ExitReport(msgspec.Struct, frozen=True):
    """How an engine process ended."""

    # Exit status; on POSIX a negative number is the signal that ended the process.
    code: int
    # Such as "SIGKILL"; empty if no signal ended it.
    signal: str = ""
    # True if this worker had called `stop` or `kill`.
    wanted: bool = False
    # The largest resident size that was measured.
    peak_resident_bytes: int = 0
    # The last lines of stderr, for the log and for finding the cause; never sent to a client.
    stderr_tail: tuple[str, ...] = ()
    # How many processes the OOM killer ended in this control group while the process ran.
    oom_kills: int = 0

    @property
    def shortage(self) -> Shortage | None:
        """Which kind of memory ran out; None if none did. A SIGKILL that we did not send is taken
        for the kernel's OOM killer."""
        if self.wanted:
            return None
        if self.signal == "SIGKILL" or self.code == SHELL_SAYS_KILLED:
            return "killed"
        return WINDOWS_STATUS.get(self.code & 0xFFFFFFFF)

    @property
    def is_fault(self) -> bool:
        """Whether the process died of a fault in native code."""
        if self.wanted or self.shortage is not None:
            return False
        if sys.platform != "win32":
            return self.signal in FAULTS
        status = self.code & 0xFFFFFFFF
        return self.code == WINDOWS_ABORT or (
            status >= WINDOWS_EXCEPTION and status != WINDOWS_CTRL_C
        )

    def __str__(self) -> str:
        if self.shortage is None:
            guess = ""
        else:
            guess = ", out of memory" if self.oom_kills else ", perhaps out of memory"
        how = f"signal {-self.code} {self.signal}" if self.signal else f"exit code {self.code}"
        return how + guess


def signal_name(code: int) -> str:
    """The name of the signal in an exit status; empty if there is none."""
    if code >= 0 or sys.platform == "win32":
        return ""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


class EngineProcess(Protocol):
    """A process that holds one model. Servicers use `call` and `unary`; the owner uses the rest."""

    @property
    def pid(self) -> int: ...

    @property
    def exit(self) -> ExitReport | None:
        """How the process ended; None while it runs."""

    def call(self, body: msgspec.Struct) -> AsyncGenerator[msgspec.Raw, None]:
        """Yield the events of one call as the engine sends them.

        To leave early (`aclose`, cancellation) stops the call in the engine within one step. Use
        `contextlib.aclosing` around it, because a generator is otherwise closed some time later.

        Raises:
            ServingError: the engine ended the call with this error.
            WorkerLost: the process died.
            Overloaded: the reader was too slow and too many events were queued.
        """

    def call_batches(self, body: msgspec.Struct) -> AsyncGenerator[list[msgspec.Raw], None]:
        """Like `call`, but yields all queued events together, so that a slow reader can pack
        them."""

    async def unary(self, body: msgspec.Struct) -> msgspec.Raw:
        """Run a call that has exactly one event, and return that event."""

    async def load(self, spec: msgspec.Raw, on_progress: OnProgress) -> msgspec.Raw:
        """Load the model; return its facts.

        Raises:
            ServingError: the engine reported why the model cannot be loaded.
            WorkerLost: the process died during the load; see `exit`.
        """

    def shed(self) -> None:
        """Ask the engine to free its caches; only while no call is open."""

    def limit_caches(self, max_bytes: int) -> None:
        """Let the engine keep no more than `max_bytes` of past work, beyond what its model always
        takes."""

    async def stop(self, grace_s: float) -> ExitReport:
        """Ask it to exit, terminate it after `grace_s` seconds, kill it after as many more."""

    def kill(self) -> None: ...

    async def wait(self) -> ExitReport:
        """Wait until the process has ended."""

    def resident_bytes(self) -> int:
        """Resident size now; 0 after the process has ended."""


class Launcher(Protocol):
    """Starts engine processes."""

    async def start(self, entry: "ModelEntry") -> EngineProcess:
        """Start the process of `entry` without loading its model.

        Raises:
            OSError: the operating system did not start the process.
        """


class Standby(Protocol):
    """A process that waits for a model with its libraries imported."""

    @property
    def standby_pid(self) -> int:
        """Its number; 0 if none waits."""

    async def prepare_standby(self) -> None:
        """Start one if none waits.

        Raises:
            OSError: the operating system did not start the process.
        """

    async def end_standby(self) -> None:
        """End it, and return when its memory is free."""
