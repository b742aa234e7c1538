"""A service for the supervisor's tests: `python -m tests.unit.cli.stub_service NAME FOLDER MODE`.

It notes what happens to it in FOLDER/events and listens on the port in FOLDER/NAME.port.
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

    for number in ("SIGTERM", "SIGINT", "SIGBREAK"):
        if hasattr(signal, number):
            signal.signal(getattr(signal, number), stop)
    exit_with_parent(force_after_s=2)
    note("started")
    if mode == "crash":
        sys.exit(3)
    with socket.create_server(("127.0.0.1", int((folder / f"{name}.port").read_text()))) as door:
        if mode != "mute":
            threading.Thread(target=answer, args=(door, note), daemon=True).start()
        sys.stdout.write(f"{name} says hello\n")
        sys.stdout.flush()
        while not stopping.wait(0.05):
            # Waking up lets Windows run the signal handlers.
            pass
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
