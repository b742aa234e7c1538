"""When to stop: signals, on every platform, and the end of the process that started this one."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

PARENT_CHECK_S = 1.0

log = logging.getLogger(__name__)


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


async def stop_with_parent(requests: StopRequests) -> None:
    """Ask to stop once the process that started this one is gone. Returns then."""
    started_by = os.getppid()
    parent = psutil.Process(started_by) if psutil.pid_exists(started_by) else None
    # Nothing tells of a parent's end, on no platform: it has to be looked for.
    while parent is not None and parent.is_running() and os.getppid() == started_by:  # noqa: ASYNC110
        await asyncio.sleep(PARENT_CHECK_S)
    log.warning("the process that started this worker (%d) is gone: stopping", started_by)
    requests.add()
