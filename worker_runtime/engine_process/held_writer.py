"""Writes frames to a stream from several threads, together where they are ready together."""

import contextlib
import threading
from collections.abc import Iterator
from typing import BinaryIO


class HeldWriter:
    """A write blocks while nobody reads. This is the back-pressure.

    Args:
        stream: buffered.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._n_holding = 0

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Send everything written inside the `with` block at its end, to wake the reader once."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def hold(self) -> None:
        """Keep what is written until `release`, which follows in any case."""
        with self._lock:
            self._n_holding += 1

    def release(self) -> None:
        with self._lock:
            self._n_holding -= 1
            self._flush()

    def write(self, *frames: bytes | bytearray) -> None:
        """Send the frames; after `close` they are dropped."""
        with self._lock:
            if self._stream.closed:
                return
            for frame in frames:
                self._stream.write(frame)
            if not self._n_holding:
                self._flush()

    def close(self) -> None:
        """Send what is kept, and close the stream."""
        with self._lock:
            self._stream.close()

    def _flush(self) -> None:
        if not self._stream.closed:
            self._stream.flush()
