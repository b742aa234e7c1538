"""Prepares requests on threads beside the one that reads the pipe: rendering, tokenizing, grammars.

Cancellations and other requests are thus received at once, however long a prompt is. There are two
lanes, each a queue with a thread, so that short requests never wait for long ones. A preparation
has a time limit, and ends soon after its request is cancelled.
"""

import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable

from msgspec import Raw

from common.error_texts import ErrorText
from common.errors import BackendFailure, Cancelled, InvalidRequest, ServingError
from worker_runtime.engine_process.watchdog import Watchdog

# Longer requests go to the lane for long requests.
SHORT_BYTES = 64 * 1024
# Rendering has a limit of its own (`text/template.py`) and is repeated a few times; slow processors
# tokenize a megabyte a second.
LIMIT_S = 15.0
BYTES_PER_S = 1024 * 1024
# A preparation this long after its limit is in native code that does not return.
GRACE_S = 30.0


class Preparation:
    """The preparation of one request."""

    def __init__(self, call_id: int, body: Raw, clock: Callable[[], float]) -> None:
        self.call_id = call_id
        self.body = body
        self.n_bytes = len(memoryview(body))
        self.limit_s = LIMIT_S + self.n_bytes / BYTES_PER_S
        self.is_cancelled = False
        self._clock = clock
        self._until_s = 0.0

    def begin(self) -> None:
        """Start the time limit; the time in the queue does not count."""
        self._until_s = self._clock() + self.limit_s

    def check(self) -> None:
        """Check that the result is still needed and the time limit holds.

        Raises:
            Cancelled: no client waits for the request.
            InvalidRequest: the preparation takes too long.
        """
        if self.is_cancelled:
            raise Cancelled(ErrorText("client_left"))
        if self._clock() > self._until_s:
            raise InvalidRequest(
                ErrorText("preparation_too_slow", limit_s=round(self.limit_s)),
                suggestions=(ErrorText("shorten_input"),),
            )


class PreparationLanes:
    """The two lanes.

    Args:
        prepare: does the work on a lane's thread, and calls `finish` at its end. It may raise any
            error.
        fail: answers a request with an error.
    """

    def __init__(
        self,
        prepare: Callable[[Preparation], None],
        fail: Callable[[int, ServingError], None],
        watchdog: Watchdog,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prepare = prepare
        self._fail = fail
        self._watchdog = watchdog
        self._clock = clock
        # Calls that no other part knows yet. The lock is held while a call is handed over, which
        # never blocks, so that a cancellation always finds the call in exactly one place.
        self._open: dict[int, Preparation] = {}
        self._handing_on = threading.Lock()
        self._short: queue.SimpleQueue[Preparation] = queue.SimpleQueue()
        self._long: queue.SimpleQueue[Preparation] = queue.SimpleQueue()

    def start(self) -> None:
        for name, lane in (("short requests", self._short), ("long requests", self._long)):
            threading.Thread(target=self._run, args=(name, lane), name=name, daemon=True).start()

    def submit(self, call_id: int, body: Raw) -> None:
        preparation = Preparation(call_id, body, self._clock)
        self._open[call_id] = preparation
        (self._short if preparation.n_bytes <= SHORT_BYTES else self._long).put(preparation)

    def cancel(self, call_id: int) -> bool:
        """Cancel a call; returns False if the call is not here, or no longer."""
        with self._handing_on:
            preparation = self._open.pop(call_id, None)
            if preparation is None:
                return False
            preparation.is_cancelled = True
            return True

    def finish(self, preparation: Preparation, hand_on: Callable[[], None] = lambda: None) -> bool:
        """Call `hand_on`, which must not block; afterwards another part owns the request.

        Returns False if the request was cancelled meanwhile; then nothing was called.
        """
        with self._handing_on:
            if self._open.pop(preparation.call_id, None) is None:
                return False
            hand_on()
            return True

    def _run(self, name: str, lane: "queue.SimpleQueue[Preparation]") -> None:
        try:
            while True:
                preparation = lane.get()
                with self._watchdog.step(name, preparation.limit_s + GRACE_S):
                    self._run_one(preparation)
        except OSError:
            pass  # the pipe is closed: the process is about to end

    def _run_one(self, preparation: Preparation) -> None:
        error: ServingError
        try:
            preparation.begin()
            preparation.check()
            self._prepare(preparation)
            return
        except ServingError as raised:
            error = raised
        except Exception:  # noqa: BLE001 - a request's outermost frame: the others must continue
            traceback.print_exc(file=sys.stderr)
            error = BackendFailure(ErrorText("request_not_prepared"))
        if self.finish(preparation):
            self._fail(preparation.call_id, error)
