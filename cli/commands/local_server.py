"""The server that a command needs: the one that runs, or one that it starts and ends."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.commands.failure import CommandError
from cli.commands.server import Server
from cli.settings import StackSettings

READY_WITHIN_S = 120.0
LOOK_EVERY_S = 0.1
STOP_WITHIN_S = 60.0
SHOWN_BYTES = 2000


@contextmanager
def server_for(address: str | None) -> Iterator[Server]:
    """The server at `address`, or that of the settings; one is started here if none runs there.

    Raises:
        CommandError: none can be reached or started.
    """
    server = Server(address)
    if address is not None or server.runs():
        yield server
        return
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "serve.log"
        with log.open("wb") as out:
            process = _started(out.fileno())
        try:
            sys.stderr.write("starting a server until this is done …\n")
            _wait(process, server, log)
            yield server
        finally:
            _stop(process)


def _started(out: int) -> "subprocess.Popen[bytes]":
    own = {"EXIT_WITH_PARENT": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "serve"],
        env=StackSettings.read(own).inherited,
        # It ends when this closes, however this process ends.
        stdin=subprocess.PIPE,
        stdout=out,
        stderr=subprocess.STDOUT,
        # Ctrl-C stops an answer here, not the server.
        start_new_session=sys.platform != "win32",
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


def _wait(process: "subprocess.Popen[bytes]", server: Server, log: Path) -> None:
    deadline_s = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            said = log.read_bytes()[-SHOWN_BYTES:].decode(errors="replace")
            raise CommandError(f"the server ended with status {process.returncode}:\n{said}")
        if server.is_ready():
            return
        time.sleep(LOOK_EVERY_S)
    raise CommandError(f"the server is not ready after {READY_WITHIN_S:.0f} s")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
