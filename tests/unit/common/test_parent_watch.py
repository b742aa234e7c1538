"""A process hears its parent, and ends when it is gone."""

import subprocess
import sys

WITHIN_S = 30
LISTENER = """
import signal, sys, threading
from common.parent_watch import exit_with_parent

def hear(line):
    print(line.decode(), flush=True)

asked = threading.Event()
for number in (signal.SIGTERM, getattr(signal, "SIGBREAK", signal.SIGTERM)):
    signal.signal(number, lambda *_: asked.set())
exit_with_parent({force_after_s}, on_line=hear)
while {stubborn} or not asked.wait(0.05):
    pass
print("drained", flush=True)
"""


def start(*, stubborn: bool, force_after_s: float) -> "subprocess.Popen[bytes]":
    code = LISTENER.format(stubborn=stubborn, force_after_s=force_after_s)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_lines_are_heard_whole_however_they_arrive_and_the_end_asks_to_drain() -> None:
    with start(stubborn=False, force_after_s=WITHIN_S) as listener:
        assert listener.stdin is not None
        assert listener.stdout is not None
        for piece in (b"one\ntw", b"o\n", b"x" * 9000 + b"\n", b"unfinished"):
            listener.stdin.write(piece)
            listener.stdin.flush()
        listener.stdin.close()
        assert listener.stdout.read().splitlines() == [b"one", b"two", b"x" * 9000, b"drained"]
        assert listener.wait(WITHIN_S) == 0


def test_what_does_not_drain_is_ended() -> None:
    with start(stubborn=True, force_after_s=0.2) as listener:
        assert listener.stdin is not None
        listener.stdin.close()
        assert listener.wait(WITHIN_S) == 70
