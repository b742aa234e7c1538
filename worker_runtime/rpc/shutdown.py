"""Stop requests by signal, on every platform; the end of the parent process arrives as a signal."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequests:
    """`first` is set to stop gracefully, `second` to stop at once."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()

    def add(self) -> None:
        if self.first.is_set():
            self.second.set()
        self.first.set()


@contextmanager
def stop_on_signals(requests: StopRequests) -> Iterator[None]:
    """Handle SIGTERM, SIGINT and, on Windows, SIGBREAK as stop requests inside the `with` block."""
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":
        # Windows event loops have no add_signal_handler.
        def on_signal(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(requests.add)

        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGBREAK)
        before = [signal.signal(number, on_signal) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
    else:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, requests.add)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
