"""The engine process's end of the pipe: reads commands, passes them to one engine, writes reports.

    def main() -> None:
        host_engine(lambda outbox: ChatEngine(outbox))

An engine process first moves its stdout to a private descriptor and redirects stdout to stderr, so
that a library that prints cannot corrupt the pipe. It exits when its stdin closes, so it does not
outlive its worker. It has two threads. A reader takes commands off the pipe, so that a stop or the
end of the pipe is noticed during a load, too; it also answers pings and reports a thread that is
stuck. The main thread calls the engine. A load has a third one, see `_load_apart`.
"""

import contextlib
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from msgspec import Raw

from common.errors import ServingError
from common.frames import frame_length
from worker_runtime.engine_process import protocol
from worker_runtime.engine_process.held_writer import HeldWriter
from worker_runtime.engine_process.load_errors import raised_while_loading
from worker_runtime.engine_process.watchdog import Watchdog

HEAD_BYTES = 4
# The size of a pipe's buffer on Linux; a larger write is passed on in pieces anyway.
PIPE_BYTES = 1 << 16
# How long an engine may take to close before the process exits without it.
CLOSE_S = 5.0
# How long an engine may take to accept one command; a load has no such limit.
FRONT_LIMIT_S = 60.0


class Outbox:
    """Writes reports to the worker; may be called from any thread.

    Args:
        watchdog: knows what the process's threads are doing; its finding is part of every pong.
    """

    def __init__(self, stream: BinaryIO, watchdog: Watchdog | None = None) -> None:
        self.watchdog = watchdog or Watchdog()
        self._writer = HeldWriter(stream)
        # A context in which everything reported is sent in one write.
        self.together = self._writer.together

    def event(self, call_id: int, body: Any) -> None:
        """Send one event of a call; `body` is the engine's own struct."""
        self._send(protocol.Event(call_id, protocol.raw(body)))

    def events(self, bodies: Iterable[tuple[int, Any]]) -> None:
        """Send events of several calls in one write."""
        self._send(*(protocol.Event(call_id, protocol.raw(body)) for call_id, body in bodies))

    def answer(self, call_id: int, *bodies: Any) -> None:
        """Send the last events of a call and its end in one write."""
        events = (protocol.Event(call_id, protocol.raw(body)) for body in bodies)
        self._send(*events, protocol.Ended(call_id))

    def ended(self, call_id: int, error: ServingError | None = None) -> None:
        """Send a call's last message, with an error if it failed."""
        self._send(protocol.Ended(call_id, protocol.PipeError.of(error) if error else None))

    def progress(self, fraction: float, stage: str = "") -> None:
        self._send(protocol.Progress(fraction, stage))

    def loaded(self, facts: Any) -> None:
        self._send(protocol.Loaded(protocol.raw(facts)))

    def load_failed(self, error: ServingError) -> None:
        self._send(protocol.LoadFailed(protocol.PipeError.of(error)))

    def pong(self) -> None:
        self._send(protocol.Pong(self.watchdog.overdue()))

    def _send(self, *reports: protocol.Report) -> None:
        self._writer.write(*map(protocol.frame, reports))


class Engine(Protocol):
    """What an engine process runs. All methods are called on the process's main thread, but `load`
    on one that ends with it.

    An engine's own threads report to the outbox's watchdog what they begin and how long it may
    take.
    """

    def load(self, spec: Raw) -> Any:
        """Load the model and report progress; return its facts as a struct.

        Raises:
            ServingError: the load failed; the process reports the error and exits.
            Exception: the same, reported as `BackendLoadFailed` without the exception's text.
        """

    def submit(self, call_id: int, body: Raw) -> None:
        """Begin a call and return at once. Its result, or its error, is sent through the outbox."""

    def cancel(self, call_id: int) -> None:
        """Stop a call within one step. Unknown ids are ignored."""

    def shed(self) -> None:
        """Free the caches of past work. Called only while no call is open."""

    def limit_caches(self, max_bytes: int) -> None:
        """Keep no more than `max_bytes` of past work from now on; called while calls are open
        too."""

    def close(self) -> None:
        """Release what the operating system does not release when the process ends."""


def host_engine(build: Callable[[Outbox], Engine]) -> None:
    """Run one engine until the worker sends `Stop` or the pipe closes. Does not return normally."""
    commands, reports = _claim_stdio()
    _volunteer_for_oom_kill()
    code = 1
    try:
        outbox = Outbox(reports)
        _run(build, outbox, _Inbox(commands, outbox.pong))
        code = 0
    except BrokenPipeError:
        # The worker is gone, so nobody is left to read a report.
        pass
    except Exception:  # noqa: BLE001 - the process's outermost loop: the worker sees the exit code
        traceback.print_exc()
    finally:
        # Threads and destructors of native libraries must not keep the process alive.
        _exit(code)


def _run(build: Callable[[Outbox], Engine], outbox: Outbox, inbox: "_Inbox") -> None:
    engine = build(outbox)
    is_going_on = True
    while is_going_on:
        command = inbox.get()
        if isinstance(command, protocol.Load):
            is_going_on = _load(engine, outbox, command.spec, inbox.loaded)
        else:
            with outbox.watchdog.step("front", FRONT_LIMIT_S):
                is_going_on = _obey(engine, command)
    engine.close()


def _obey(engine: Engine, command: protocol.Command) -> bool:
    """Execute one command. Returns False after `Stop`."""
    match command:
        case protocol.Submit(id=call_id, body=body):
            engine.submit(call_id, body)
        case protocol.Cancel(id=call_id):
            engine.cancel(call_id)
        case protocol.Shed():
            engine.shed()
        case protocol.LimitCaches(max_bytes=max_bytes):
            engine.limit_caches(max_bytes)
        case protocol.Stop():
            return False
    return True


def _load(engine: Engine, outbox: Outbox, spec: Raw, loaded: threading.Event) -> bool:
    try:
        facts = _load_apart(engine, spec)
    except ServingError as error:
        outbox.load_failed(error)
    except Exception as error:  # noqa: BLE001 - any failure of native code must reach the worker
        traceback.print_exc()
        outbox.load_failed(raised_while_loading("", error))
    else:
        # Set before the worker is informed, because its next command may be a stop.
        loaded.set()
        outbox.loaded(facts)
        return True
    return False


def _load_apart(engine: Engine, spec: Raw) -> Any:
    """Load on a thread that ends with the load.

    OpenMP keeps a team of threads for every thread that has computed, and once all teams together
    have more threads than the process has cores, they sleep and wake at each barrier, of which a
    token has several hundred. So the thread that loads must not keep the team that its warm-up
    used (gomp_managed_threads in libgomp's team.c).
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="load") as executor:
        return executor.submit(engine.load, spec).result()


class _Inbox:
    """A queue of commands for the main thread, filled by a thread that reads the pipe.

    Args:
        pong: answers a ping.
    """

    def __init__(self, commands: BinaryIO, pong: Callable[[], None]) -> None:
        self.loaded = threading.Event()
        self._commands = commands
        self._pong = pong
        self._queue: queue.SimpleQueue[protocol.Command] = queue.SimpleQueue()
        threading.Thread(target=self._read_all, name="pipe reader", daemon=True).start()

    def get(self) -> protocol.Command:
        return self._queue.get()

    def _read_all(self) -> None:
        try:
            while (command := _read(self._commands)) is not None:
                if isinstance(command, protocol.Ping):
                    self._pong()
                    continue
                self._queue.put(command)
                if isinstance(command, protocol.Stop):
                    break
        except Exception:  # noqa: BLE001 - the thread's outermost loop: the process ends without it
            traceback.print_exc()
            _exit(1)
        # A load can only be interrupted by ending the process, which serves nothing yet.
        if self.loaded.is_set():
            self._queue.put(protocol.Stop())
            threading.Event().wait(CLOSE_S)
        _exit(0)


def _exit(code: int) -> None:
    # sys.exit would wait for threads and run destructors of libraries that may be broken.
    sys.stderr.flush()
    os._exit(code)


def _claim_stdio() -> tuple[BinaryIO, BinaryIO]:
    commands = os.fdopen(os.dup(0), "rb")
    reports = os.fdopen(os.dup(1), "wb", buffering=PIPE_BYTES)
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
    """Make the kernel's OOM killer prefer the engine, which can be restarted, to other
    processes."""
    score = Path("/proc/self/oom_score_adj")
    # The file is absent outside Linux and read-only in some sandboxes.
    with contextlib.suppress(OSError):
        score.write_text("800")


def _read(commands: BinaryIO) -> protocol.Command | None:
    head = commands.read(HEAD_BYTES)
    if len(head) < HEAD_BYTES:
        return None
    payload = commands.read(frame_length(head))
    return protocol.command_decoder.decode(payload)
