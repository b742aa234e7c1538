"""Lines go out in order and whole, and nobody waits for who reads them."""

import threading
import time

from cli.output import Output

WITHIN_S = 10.0


class Reader:
    """Takes what is written: as a pipe does, so much at a time, and only while it is `going`."""

    def __init__(self, at_once: int = 7) -> None:
        self.taken = b""
        self.going = threading.Event()
        self.going.set()
        self.asked = threading.Event()
        self.errors: list[OSError] = []
        self._at_once = at_once

    def write(self, data: memoryview, /) -> int | None:
        self.asked.set()
        self.going.wait(WITHIN_S)
        if self.errors:
            raise self.errors.pop()
        taken = data[: self._at_once]
        self.taken += taken
        return len(taken)


def test_lines_arrive_in_order_however_little_is_taken_at_a_time() -> None:
    reader = Reader()
    output = Output(reader)
    lines = [b"line %d of many\n" % number for number in range(100)]
    for line in lines:
        output.write(line)
    output.close(WITHIN_S)
    assert reader.taken == b"".join(lines)


def test_a_reader_that_stopped_holds_up_nobody_and_learns_how_many_lines_it_missed() -> None:
    reader = Reader(at_once=1 << 20)
    reader.going.clear()
    output = Output(reader, most_bytes=100)
    began = time.monotonic()
    for number in range(1000):
        output.write(b"%09d\n" % number)
        reader.asked.wait(WITHIN_S)
    output.close(within_s=0)
    assert time.monotonic() - began < WITHIN_S
    reader.going.set()
    output.close(WITHIN_S)
    first, missed, *rest = reader.taken.splitlines()
    # One is in the writer's hands, ten wait, the others are dropped.
    assert first == b"000000000"
    assert missed == b"... 989 lines were dropped: nothing read them"
    assert rest == [b"%09d" % number for number in range(1, 11)]


def test_a_terminal_that_is_gone_costs_the_lines_and_nothing_else() -> None:
    reader = Reader(at_once=1 << 20)
    reader.errors = [OSError(5, "Input/output error")]
    output = Output(reader)
    output.write(b"lost\n")
    output.write(b"seen\n")
    output.close(WITHIN_S)
    assert reader.taken == b"... 1 lines were dropped: nothing read them\nseen\n"


def test_a_reader_that_takes_nothing_now_is_tried_again() -> None:
    class Busy(Reader):
        def write(self, data: memoryview, /) -> int | None:
            first = not self.asked.is_set()
            self.asked.set()
            return None if first else super().write(data)

    reader = Busy()
    output = Output(reader)
    output.write(b"patience\n")
    output.close(WITHIN_S)
    assert reader.taken == b"patience\n"
