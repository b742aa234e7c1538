"""The engine process's side of the pipe: reads commands, hands them to one engine, writes reports.

    def main() -> None:
        host_engine(lambda outbox: ChatEngine(outbox))

The first thing an engine process does is to move its stdout to a private descriptor, so that a
library's print cannot break the wire; stdout then goes to stderr. It exits when its stdin closes,
so a dead worker leaves no orphan.
"""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from msgspec import Raw

from protos.errors import BackendLoadFailed, ServingError
from worker_runtime import wire

HEAD_BYTES = 4


class Outbox:
    """Writes reports to the worker; may be called from any thread.

    A report blocks while the worker does not read: that is the back-pressure.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def event(self, call_id: int, body: Any) -> None:
        """Send one piece of a call's answer; `body` is the engine's own struct."""
        self._send(wire.Event(call_id, wire.raw(body)))

    def ended(self, call_id: int, error: ServingError | None = None) -> None:
        """Send a call's last message."""
        self._send(wire.Ended(call_id, wire.WireError.of(error) if error else None))

    def progress(self, fraction: float, stage: str = "") -> None:
        self._send(wire.Progress(fraction, stage))

    def loaded(self, facts: Any) -> None:
        self._send(wire.Loaded(wire.raw(facts)))

    def load_failed(self, error: ServingError) -> None:
        self._send(wire.LoadFailed(wire.WireError.of(error)))

    def _send(self, report: wire.Report) -> None:
        data = wire.frame(report)
        with self._lock:
            self._stream.write(data)
            self._stream.flush()


class Engine(Protocol):
    """What an engine process runs. All methods are called on the thread that reads the pipe."""

    def load(self, spec: Raw) -> Any:
        """Load the model, reporting progress; return its facts as a struct.

        Raises:
            ServingError, MemoryError, OSError: the load failed; the process reports it and exits.
        """

    def submit(self, call_id: int, body: Raw) -> None:
        """Begin a call and return at once; its outcome goes to the outbox, an error too."""

    def cancel(self, call_id: int) -> None:
        """Stop a call within one step; unknown ids are ignored."""

    def close(self) -> None:
        """Release what the operating system would not release by itself."""


def host_engine(build: Callable[[Outbox], Engine]) -> None:
    """Run one engine until the worker says stop or the pipe closes. Never returns normally."""
    commands, reports = _claim_stdio()
    _volunteer_for_oom_kill()
    outbox = Outbox(reports)
    engine = build(outbox)
    try:
        while (command := _read(commands)) is not None:
            match command:
                case wire.Load(spec):
                    if not _load(engine, outbox, spec):
                        break
                case wire.Submit(id=call_id, body=body):
                    engine.submit(call_id, body)
                case wire.Cancel(id=call_id):
                    engine.cancel(call_id)
                case wire.Stop():
                    break
        engine.close()
    finally:
        # Native libraries' threads and destructors must not keep a dead model in memory.
        os._exit(0)


def _load(engine: Engine, outbox: Outbox, spec: Raw) -> bool:
    try:
        facts = engine.load(spec)
    except ServingError as error:
        outbox.load_failed(error)
    except MemoryError:
        outbox.load_failed(BackendLoadFailed("not enough memory to load the model"))
    except OSError as error:
        number = getattr(error, "winerror", None) or error.errno
        outbox.load_failed(BackendLoadFailed(f"the model could not be read (error {number})"))
    else:
        outbox.loaded(facts)
        return True
    return False


def _claim_stdio() -> tuple[BinaryIO, BinaryIO]:
    commands = os.fdopen(os.dup(0), "rb")
    reports = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(commands.fileno(), os.O_BINARY)
        msvcrt.setmode(reports.fileno(), os.O_BINARY)
    return commands, reports


def _volunteer_for_oom_kill() -> None:
    """Let the kernel take the engine, which comes back, before the worker or the user's desktop."""
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text("800")


def _read(commands: BinaryIO) -> wire.Command | None:
    head = commands.read(HEAD_BYTES)
    if len(head) < HEAD_BYTES:
        return None
    payload = commands.read(wire.frame_length(head))
    return wire.command_decoder.decode(payload)
