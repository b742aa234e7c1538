"""Writes the lines of the stack to stdout, from a separate thread.

The reader may stop reading (a pager, Ctrl-S, a full pipe), end (`| head`) or be gone (a closed
terminal, whose writers get EIO). None of this may block or end the supervisor: its loop passes the
lines to the thread and goes on. Lines that cannot be written are dropped and counted.
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

# Buffered for a reader that pauses; the start of a service prints a hundredth of it.
MOST_BYTES = 1 << 20
# Time until the next attempt on a descriptor that another process made non-blocking.
AGAIN_S = 0.05


class Sink(Protocol):
    """What lines are written to: a raw file."""

    def write(self, data: memoryview, /) -> int | None:
        """The number of bytes that were written; None: none can be written now."""


def open_standard_streams() -> None:
    """Open the null device in place of stdin, stdout or stderr if the parent closed them.

    Otherwise the next file or socket that is opened becomes stdout, and lines are written to it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # It stays open as long as the process lives, like a real standard stream.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def stdout_unbuffered() -> Sink:
    """stdout without Python's buffer: a blocked writer would hold its lock at the exit."""
    buffered = sys.stdout.buffer
    raw: Sink = getattr(buffered, "raw", buffered)
    return raw


class Output:
    """Accepts whole lines and writes them in order, without blocking the caller.

    Args:
        most_bytes: size of the buffer; lines that do not fit into it are dropped.
    """

    def __init__(self, sink: Sink, most_bytes: int = MOST_BYTES) -> None:
        self._sink = sink
        self._most_bytes = most_bytes
        self._waiting: deque[bytes] = deque()
        self._n_bytes = 0
        self._n_dropped = 0
        self._closed = False
        self._changed = threading.Condition()
        # A daemon: a blocked write must not keep the process alive.
        self._thread = threading.Thread(target=self._write_all, name="output", daemon=True)
        self._thread.start()

    def write(self, lines: bytes) -> None:
        """Add whole lines to the buffer; returns at once."""
        with self._changed:
            if self._n_bytes + len(lines) > self._most_bytes:
                self._n_dropped += lines.count(b"\n")
                return
            self._waiting.append(lines)
            self._n_bytes += len(lines)
            self._changed.notify()

    def close(self, within_s: float) -> None:
        """Write the buffer, if the reader reads it in this time."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(within_s)

    def _write_all(self) -> None:
        if sys.platform != "win32":
            # The main thread handles signals; one that is delivered here would not wake it.
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while lines := self._next():
            try:
                self._write(lines)
            except (OSError, ValueError):
                # A full disk, a closed terminal or a closed pipe; the first two may recover.
                with self._changed:
                    self._n_dropped += lines.count(b"\n")

    def _next(self) -> bytes:
        """The lines to write next; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return b""
            lines = self._waiting.popleft()
            self._n_bytes -= len(lines)
            if self._n_dropped:
                lines = b"... %d lines were dropped: nothing read them\n" % self._n_dropped + lines
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
    """Prints the log records of libraries in the supervisor like its own lines."""

    def __init__(self, print_line: Callable[[str], None]) -> None:
        super().__init__()
        self._print_line = print_line

    def emit(self, record: logging.LogRecord) -> None:
        self._print_line(self.format(record))
