"""One run of one service's process: start it, pass on what it prints, learn its end, signal it."""

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
# For what a process printed before it ended; one that it started may hold its stdout for longer.
LAST_LINES_WITHIN_S = 1.0


class Relay:
    """Passes whole lines on, each behind the name of who said it.

    Args:
        write: takes lines without waiting for their reader.
    """

    def __init__(self, name: str, width: int, write: Callable[[bytes], None]) -> None:
        self._prefix = f"{name:<{width}} | ".encode()
        self._write_lines = write
        self._pending = b""
        self._last = b""

    @property
    def last_line(self) -> str:
        """What was said last and is not blank: why a process ended, more often than not."""
        return self._last[:LONGEST_LAST_LINE_BYTES].decode("utf-8", "replace")

    def feed(self, chunk: bytes) -> None:
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        if len(self._pending) > LONGEST_LINE_BYTES:
            lines.append(self._pending)
            self._pending = b""
        if lines:
            self._write(lines)

    def close(self) -> None:
        """Write what was said without a line's end."""
        if self._pending:
            self._write([self._pending])
            self._pending = b""

    def _write(self, lines: Sequence[bytes]) -> None:
        self._last = next((said for line in reversed(lines) if (said := line.strip())), self._last)
        self._write_lines(b"".join(self._prefix + line + b"\n" for line in lines))


class Child(asyncio.SubprocessProtocol):
    """A running process. Its stdin is held open by this one: it ends when this one does."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._said_all = asyncio.Event()
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
            # A terminal's Ctrl-C must reach the supervisor alone: it decides on the order.
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
        """Wait for the process's own end and for what it printed; its engine processes may hold its
        stdout for longer."""
        await asyncio.shield(self._exited)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._said_all.wait(), LAST_LINES_WITHIN_S)
        code = self.code
        return 0 if code is None else code

    def ask_to_stop(self) -> None:
        """Let it drain and exit."""
        stop: int = signal.SIGTERM
        if sys.platform == "win32":
            stop = signal.CTRL_BREAK_EVENT
        self._send(stop)

    def tell(self, line: bytes) -> None:
        """Write a line to its stdin, without waiting for it to be read."""
        stdin = self._running.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)
        if not stdin.is_closing():
            stdin.write(line)

    def kill(self) -> None:
        """End it now, and the engine processes of its group with it, also those that are stuck."""
        if self.code is not None:
            return
        # macOS calls a group of nothing but ended processes a matter of permissions.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                # Its job object ends its engine processes.
                self._running.kill()
            else:
                os.killpg(self.pid, signal.SIGKILL)

    def release(self) -> None:
        """Let go of its pipes."""
        self._relay.close()
        self._running.close()

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._running.send_signal(number)

    @property
    def _running(self) -> asyncio.SubprocessTransport:
        assert self._transport is not None, "the event loop connects before it returns the child"
        return self._transport

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._relay.feed(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 1:
            self._said_all.set()

    def process_exited(self) -> None:
        if not self._exited.done():
            self._exited.set_result(None)
