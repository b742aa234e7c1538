"""One run of one service's process: start it, pass on what it prints, learn its end, signal it."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Self

LONGEST_LINE_BYTES = 64 * 1024


class Relay:
    """Writes whole lines to stdout, each behind the name of who said it."""

    def __init__(self, name: str, width: int) -> None:
        self._prefix = f"{name:<{width}} | ".encode()
        self._pending = b""

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
        # Nobody reads stdout any more (`| head`): that is no reason to stop serving.
        with contextlib.suppress(BrokenPipeError, ValueError):
            sys.stdout.buffer.write(b"".join(self._prefix + line + b"\n" for line in lines))
            sys.stdout.buffer.flush()


class Child(asyncio.SubprocessProtocol):
    """A running process. Its stdin is held open by this one: it ends when this one does."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
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
        """Wait for the process's own end, though its engine processes may still hold its stdout."""
        await asyncio.shield(self._exited)
        code = self.code
        return 0 if code is None else code

    def ask_to_stop(self) -> None:
        """Let it drain and exit."""
        stop: int = signal.SIGTERM
        if sys.platform == "win32":
            stop = signal.CTRL_BREAK_EVENT
        self._send(stop)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._running.kill()

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

    def process_exited(self) -> None:
        if not self._exited.done():
            self._exited.set_result(None)
