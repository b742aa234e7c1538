"""The seam between the lifecycle and the processes it runs: what an engine process offers."""

import signal
import sys
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from worker_runtime.memory.oom_signs import WINDOWS_STATUS, Shortage

if TYPE_CHECKING:
    from worker_runtime.catalog import ModelEntry

# What a shell makes of SIGKILL.
SHELL_SAYS_KILLED = 128 + 9

# A program's own mistake, or its compiler's: bad addresses, instructions that this processor lacks,
# assertions.
FAULTS = frozenset({"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"})
# Windows: the statuses of exceptions begin with this; that of Ctrl-C is no fault.
WINDOWS_EXCEPTION = 0xC0000000
WINDOWS_CTRL_C = 0xC000013A
WINDOWS_ABORT = 3

OnProgress = Callable[[float, str], None]


class ExitReport(msgspec.Struct, frozen=True):
    """How an engine process ended."""

    # Exit status; negative on POSIX: the signal that ended it.
    code: int
    # "SIGKILL", …; empty if no signal ended it.
    signal: str = ""
    # True if `stop` or `kill` of this process was called before.
    wanted: bool = False
    # Largest resident size seen.
    peak_resident_bytes: int = 0
    # Latest lines of its stderr, for the log and for telling causes apart; never for a client.
    stderr_tail: tuple[str, ...] = ()
    # What the kernel's out-of-memory killer ended in this control group while the process ran.
    oom_kills: int = 0

    @property
    def shortage(self) -> Shortage | None:
        """What ran out, as its end tells: nobody here sends SIGKILL, but the kernel does."""
        if self.wanted:
            return None
        if self.signal == "SIGKILL" or self.code == SHELL_SAYS_KILLED:
            return "killed"
        return WINDOWS_STATUS.get(self.code & 0xFFFFFFFF)

    @property
    def is_fault(self) -> bool:
        """Whether native code broke down, as its end tells."""
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
    """Of the signal that an exit status tells of; empty: of none."""
    if code >= 0 or sys.platform == "win32":
        return ""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


class EngineProcess(Protocol):
    """A process that holds one model. Servicers use `call` and `unary`, the rest is the owner's."""

    @property
    def pid(self) -> int: ...

    @property
    def exit(self) -> ExitReport | None:
        """How it ended; None while it runs."""

    def call(self, body: msgspec.Struct) -> AsyncGenerator[msgspec.Raw, None]:
        """The events of one call, as the engine sends them.

        Leaving early (`aclose`, cancellation) stops the call in the engine within one step; use
        `contextlib.aclosing` around it, as a generator is otherwise closed only some time later.

        Raises:
            ServingError: what the engine ended the call with.
            WorkerLost: the process died.
            Overloaded: the reader let too much pile up.
        """

    def call_batches(self, body: msgspec.Struct) -> AsyncGenerator[list[msgspec.Raw], None]:
        """Like `call`, but yields all events that wait at once: for packing when a reader lags."""

    async def unary(self, body: msgspec.Struct) -> msgspec.Raw:
        """A call that has exactly one event."""

    async def load(self, spec: msgspec.Raw, on_progress: OnProgress) -> msgspec.Raw:
        """Load the model; return its facts.

        Raises:
            ServingError: the engine said why it cannot.
            WorkerLost: the process died meanwhile; see `exit`.
        """

    def shed(self) -> None:
        """Let it give back what it keeps of past work; only while no call is open."""

    async def stop(self, grace_s: float) -> ExitReport:
        """Ask it to exit, insist after `grace_s`, kill it after as long again."""

    def kill(self) -> None: ...

    async def wait(self) -> ExitReport:
        """Return when it has ended."""

    def resident_bytes(self) -> int:
        """Resident size now; 0 once it has ended."""


class Launcher(Protocol):
    async def start(self, entry: "ModelEntry") -> EngineProcess:
        """Start the process of `entry`, with nothing loaded.

        Raises:
            OSError: the operating system would not start it.
        """
