"""One run of the process of one service: its start, its output, its exit, signals to it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Self

LONGEST_LINE_BYTES = 64 * 1024
LONGEST_LAST_LINE_BYTES = 300
# To wait for the last output of an ended process; its own children may keep stdout open longer.
LAST_LINES_WITHIN_S = 1.0
JSON_OBJECT = b'{"'


class Relay:
    """Passes whole lines on, each with the name of its service in front.

    Args:
        write: accepts lines without waiting until they are read.
    """

    def __init__(self, name: str, width: int, write: Callable[[bytes], None]) -> None:
        self._prefix = f"{name:<{width}} | ".encode()
        self._field = f'{{"service": "{name}", '.encode()
        self._write_lines = write
        self._pending = b""
        self._last = b""

    @property
    def last_line(self) -> str:
        """The last printed line that is not blank, which often says why a process ended."""
        return self._last[:LONGEST_LAST_LINE_BYTES].decode("utf-8", "replace")

    def feed(self, chunk: bytes) -> None:
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        if len(self._pending) > LONGEST_LINE_BYTES:
            lines.append(self._pending)
            self._pending = b""
        if lines:
            self._write(lines)

    def close(self) -> None:
        """Write the rest, which has no line end."""
        if self._pending:
            self._write([self._pending])
            self._pending = b""

    def _write(self, lines: Sequence[bytes]) -> None:
        self._last = next((text for line in reversed(lines) if (text := line.strip())), self._last)
        self._write_lines(b"".join(self._named(line) + b"\n" for line in lines))

    def _named(self, line: bytes) -> bytes:
        # A line of JSON (LOG_FORMAT=json) stays one, with the name as its first field.
        return self._field + line[1:] if line.startswith(JSON_OBJECT) else self._prefix + line


class Child(asyncio.SubprocessProtocol):
    """A running process. This process holds its stdin open: the child ends when that closes."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._output_ended = asyncio.Event()
        self._transport: asyncio.SubprocessTransport | None = None

    @classmethod
    async def start(cls, command: Sequence[str], env: Mapping[str, str], relay: Relay) -> Self:
        """
        Raises:
            OSError: the process could not be started.
        """
        _, child = await asyncio.get_running_loop().subprocess_exec(
            lambda: cls(relay),
            *command,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal must reach the supervisor only, which decides on the order.
            start_new_session=sys.platform != "win32",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        return child

    @property
    def pid(self) -> int:
        return self._running.get_pid()

    @property
    def code(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._running.get_returncode()

    async def wait(self) -> int:
        """Wait for the end of the process and for its output, and return the exit status.

        The wait for output is bounded, because engine processes may keep stdout open longer.
        """
        await asyncio.shield(self._exited)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._output_ended.wait(), LAST_LINES_WITHIN_S)
        code = self.code
        return 0 if code is None else code

    async def gone(self, within_s: float) -> None:
        """Wait until the process has ended, but not longer than this."""
        await asyncio.wait({self._exited}, timeout=within_s)

    def ask_to_stop(self) -> None:
        """Ask the process to drain and exit."""
        if self.code is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if sys.platform == "win32":
                self._running.send_signal(signal.CTRL_BREAK_EVENT)
            else:
                # `send_signal` would first collect the exit status of a process that has just
                # ended, which the event loop waits for: it would then report status 255.
                os.kill(self.pid, signal.SIGTERM)

    def send_line(self, line: bytes) -> None:
        """Write a line to its stdin, without waiting until it is read."""
        stdin = self._running.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)
        if not stdin.is_closing():
            stdin.write(line)

    def kill(self) -> None:
        """End the process now, with the engine processes of its group, even if they are stuck."""
        if self.code is not None:
            return
        # macOS raises PermissionError for a group whose processes have all ended.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                # The process's own job object ends its engine processes.
                self._running.kill()
            else:
                os.killpg(self.pid, signal.SIGKILL)

    def release(self) -> None:
        """Close its pipes."""
        self._relay.close()
        self._running.close()

    @property
    def _running(self) -> asyncio.SubprocessTransport:
        assert self._transport is not None, "the event loop connects before it returns the child"
        return self._transport

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._relay.feed(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 1:
            self._output_ended.set()

    def process_exited(self) -> None:
        if not self._exited.done():
            self._exited.set_result(None)
