"""Where the stack's lines go: to stdout, from a thread of its own.

Whoever reads them may stop reading (a pager, Ctrl-S, a full pipe), leave (`| head`) or be gone (a
closed terminal, whose writers get EIO). None of this may hold up the supervisor or end it: its
loop hands lines over and goes on. What nobody takes is dropped and counted.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

# Kept for a reader that pauses; a service's whole start takes a hundredth of it.
MOST_BYTES = 1 << 20
# A descriptor that somebody made non-blocking (a terminal is shared) is tried again after this.
AGAIN_S = 0.05


class Sink(Protocol):
    """What lines are written to: a raw file."""

    def write(self, data: memoryview, /) -> int | None:
        """How many bytes were taken; None: none now, without waiting."""


def open_standard_streams() -> None:
    """Put the null device where whoever started this process closed stdin, stdout or stderr.

    Otherwise the next file or socket that is opened becomes stdout, and lines are written into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # For as long as the process lives, like the one that is missing.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def stdout_unbuffered() -> Sink:
    """stdout without Python's buffer, whose lock a blocked writer would hold at the exit."""
    buffered = sys.stdout.buffer
    raw: Sink = getattr(buffered, "raw", buffered)
    return raw


class Output:
    """Takes whole lines, writes them in order, never waits for their reader.

    Args:
        most_bytes: lines that would make more wait than this are dropped.
    """

    def __init__(self, sink: Sink, most_bytes: int = MOST_BYTES) -> None:
        self._sink = sink
        self._most_bytes = most_bytes
        self._waiting: deque[bytes] = deque()
        self._n_bytes = 0
        self._n_dropped = 0
        self._closed = False
        self._changed = threading.Condition()
        # A daemon: a write that nobody takes must not keep the process.
        self._thread = threading.Thread(target=self._write_all, name="output", daemon=True)
        self._thread.start()

    def write(self, lines: bytes) -> None:
        """Take whole lines; returns at once."""
        with self._changed:
            if self._n_bytes + len(lines) > self._most_bytes:
                self._n_dropped += lines.count(b"\n")
                return
            self._waiting.append(lines)
            self._n_bytes += len(lines)
            self._changed.notify()

    def close(self, within_s: float) -> None:
        """Write what waits, if its reader takes it in this time."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(within_s)

    def _write_all(self) -> None:
        if sys.platform != "win32":
            # Signals are the main thread's: one that came here would not wake it.
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while lines := self._next():
            try:
                self._write(lines)
            except (OSError, ValueError):
                # Full disk, closed terminal, closed pipe: the first two may take lines again.
                with self._changed:
                    self._n_dropped += lines.count(b"\n")

    def _next(self) -> bytes:
        """What to write now; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return b""
            lines = self._waiting.popleft()
            self._n_bytes -= len(lines)
            if self._n_dropped:
                lines = (
                    b"... %d lines were not written: nobody read them\n" % self._n_dropped + lines
                )
                self._n_dropped = 0
            return lines

    def _write(self, lines: bytes) -> None:
        left = memoryview(lines)
        while left:
            n_taken = self._sink.write(left)
            if n_taken is None:
                time.sleep(AGAIN_S)
            else:
                left = left[n_taken:]


class LogLines(logging.Handler):
    """What libraries log in the supervisor goes the same way as what it says itself."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(self.format(record))
