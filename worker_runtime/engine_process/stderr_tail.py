"""Copies an engine process's stderr to the log and keeps the last lines to explain its end."""

import asyncio
import logging
from collections import deque

N_KEPT_LINES = 40
MAX_LINE_BYTES = 8192

log = logging.getLogger(__name__)


class StderrTail:
    """The stderr of one engine process.

    Args:
        name: the engine's name in the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lines: deque[str] = deque(maxlen=N_KEPT_LINES)

    @property
    def lines(self) -> tuple[str, ...]:
        """The last lines, the oldest first."""
        return tuple(self._lines)

    async def relay(self, stderr: asyncio.StreamReader) -> None:
        """Read `stderr` until the process closes it."""
        rest = b""
        while chunk := await stderr.read(MAX_LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._take(line)
        self._take(rest)

    def _take(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            self._lines.append(text)
            log.info("%s: %s", self._name, text)
