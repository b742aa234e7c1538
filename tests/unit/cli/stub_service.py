"""A service for the supervisor's tests: `python -m tests.unit.cli.stub_service NAME FOLDER MODE`.

It notes what happens to it in FOLDER/events and what it is told in FOLDER/NAME.told, and listens on
the port in FOLDER/NAME.port. MODE: normal; stubborn: ignores signals; mute: never answers; crash:
ends at once; misset: the same, as one whose settings mean nothing; chatty: prints more than a pipe
holds; slow: takes long to start.
"""

import itertools
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from common.parent_watch import exit_with_parent

WHOLE_TEST_S = 60
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def main() -> None:
    name, folder, mode = sys.argv[1], Path(sys.argv[2]), sys.argv[3]

    def note(event: str) -> None:
        with (folder / "events").open("a") as events:
            events.write(f"{name} {event} {os.getpid()}\n")

    stopping = threading.Event()

    def stop(*_: object) -> None:
        note("asked")
        if mode != "stubborn":
            stopping.set()

    if mode == "misset":
        sys.stderr.write(f"{name}: WORD: is not what it should be\n")
        sys.exit(2)
    if mode == "slow":
        note("started")
        stopping.wait(WHOLE_TEST_S)
    for number in ("SIGTERM", "SIGINT", "SIGBREAK"):
        if hasattr(signal, number):
            signal.signal(getattr(signal, number), stop)

    def hear(line: bytes) -> None:
        with (folder / f"{name}.told").open("ab") as told:
            told.write(line + b"\n")

    exit_with_parent(force_after_s=2, on_line=hear)
    note("started")
    if mode == "crash":
        sys.exit("it cannot be")
    serve(name, folder, mode, stopping, note)


def serve(
    name: str, folder: Path, mode: str, stopping: threading.Event, note: Callable[[str], None]
) -> None:
    with socket.create_server(("127.0.0.1", int((folder / f"{name}.port").read_text()))) as door:
        if mode != "mute":
            threading.Thread(target=answer, args=(door, note), daemon=True).start()
        sys.stdout.write(f"{name} says hello\n")
        sys.stdout.flush()
        while not stopping.wait(0.05):
            # Waking up lets Windows run the signal handlers.
            if mode == "chatty":
                sys.stdout.write("much to say\n" * 2000)
                sys.stdout.flush()
        note("ended")


def answer(door: socket.socket, note: Callable[[str], None]) -> None:
    for n in itertools.count():
        connection, _ = door.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(REPLY)
        if n == 0:
            note("answered")


if __name__ == "__main__":
    main()
