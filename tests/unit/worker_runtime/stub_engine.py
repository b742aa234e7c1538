"""A real engine process that misbehaves on request; run with `python -m`.

Its load spec and its calls say what it shall do.
"""

import builtins
import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from common.errors import BackendLoadFailed, InvalidRequest
from worker_runtime.engine_process import host
from worker_runtime.engine_process.host import Outbox, host_engine

MODULE = "tests.unit.worker_runtime.stub_engine"


class StubSpec(msgspec.Struct):
    steps: int = 1
    step_s: float = 0.0
    # Dies by this signal at this step of the load.
    die_at_step: int = -1
    die_by: int = 9
    # Raises an exception of this type and text.
    raises: str = ""
    text: str = ""
    # Refuses with a `ServingError` of its own.
    refuses: str = ""
    hang: bool = False
    ignore_sigterm: bool = False
    ignore_stop: bool = False
    print_noise: bool = False
    allocate_mib: int = 0
    # How long it may take over one command; 0: as long as any engine.
    front_limit_s: float = 0.0
    # May not have more than this beyond what it has already, as `ulimit -v` says it; 0: no limit.
    most_mib: int = 0


class StubFacts(msgspec.Struct):
    pid: int


class StubCall(msgspec.Struct):
    """Sends `n_events` events, then ends."""

    n_events: int = 1
    event_s: float = 0.0
    size: int = 0
    # After the events:
    fail: bool = False
    exit_code: int | None = None
    never_end: bool = False
    # Hangs in the main thread, before the events; or in one of its own, which may take 0.05 s.
    hang_front: bool = False
    hang_watched: bool = False


class StubEvent(msgspec.Struct):
    number: int
    text: str
    cancelled: list[int]


class StubEngine:
    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._spec = StubSpec()
        self._cancelled: list[int] = []
        self._memory = b""

    def load(self, spec: Raw) -> Any:
        self._spec = msgspec.msgpack.decode(spec, type=StubSpec)
        if self._spec.ignore_sigterm:
            # Python's own function is for the main thread, and a load has another one.
            ctypes.CDLL(None).signal(signal.SIGTERM, ctypes.c_void_p(signal.SIG_IGN))
        if self._spec.front_limit_s:
            host.FRONT_LIMIT_S = self._spec.front_limit_s
        if self._spec.print_noise:
            print("a library prints to stdout", flush=True)  # noqa: T201 - that is the test
            print("failed to allocate buffer", file=sys.stderr, flush=True)  # noqa: T201
        if self._spec.most_mib:
            _limit_memory(self._spec.most_mib << 20)
        self._memory = b"x" * (self._spec.allocate_mib << 20)
        for step in range(self._spec.steps):
            self._outbox.progress(step / self._spec.steps, f"step {step}")
            if step == self._spec.die_at_step:
                os.kill(os.getpid(), self._spec.die_by)
            time.sleep(self._spec.step_s)
        while self._spec.hang:
            time.sleep(60)
        if self._spec.refuses:
            raise BackendLoadFailed(self._spec.refuses)
        if self._spec.raises:
            error: type[Exception] = getattr(builtins, self._spec.raises)
            raise error(self._spec.text)
        return StubFacts(os.getpid())

    def submit(self, call_id: int, body: Raw) -> None:
        call = msgspec.msgpack.decode(body, type=StubCall)
        if call.hang_front:
            threading.Event().wait()
        threading.Thread(target=self._answer, args=(call_id, call), daemon=True).start()

    def cancel(self, call_id: int) -> None:
        self._cancelled.append(call_id)

    def shed(self) -> None:
        self._memory = b""

    def limit_caches(self, max_bytes: int) -> None:
        self._memory = b""

    def close(self) -> None:
        while self._spec.ignore_stop:
            time.sleep(60)

    def _answer(self, call_id: int, call: StubCall) -> None:
        if call.hang_watched:
            with self._outbox.watchdog.step("stub", 0.05):
                threading.Event().wait()
        for number in range(call.n_events):
            if call_id in self._cancelled:
                return
            self._outbox.event(call_id, StubEvent(number, "x" * call.size, self._cancelled))
            time.sleep(call.event_s)
        if call.exit_code is not None:
            os._exit(call.exit_code)
        if not call.never_end:
            self._outbox.ended(call_id, InvalidRequest("no", param="body") if call.fail else None)


def _limit_memory(more_bytes: int) -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    host_engine(StubEngine)
