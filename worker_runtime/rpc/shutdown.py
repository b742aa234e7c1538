"""When to stop: signals, on every platform (the end of the parent comes as one, too)."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequests:
    """`first`: stop gracefully; `second`: stop now."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()

    def add(self) -> None:
        if self.first.is_set():
            self.second.set()
        self.first.set()


@contextmanager
def stop_on_signals(requests: StopRequests) -> Iterator[None]:
    """SIGTERM, SIGINT and on Windows SIGBREAK ask to stop, while this is entered."""
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":
        # No loop.add_signal_handler there.
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
