"""What a process says of its own threads."""

from worker_runtime.engine_process.watchdog import Watchdog


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_thread_is_overdue_only_while_a_step_takes_longer_than_it_may() -> None:
    clock = Clock()
    watchdog = Watchdog(clock)
    with watchdog.step("front", 10):
        clock.now_s = 9
        assert not watchdog.overdue()
        clock.now_s = 15
        assert watchdog.overdue() == "front, overdue by 5 s"
    assert not watchdog.overdue()


def test_one_thread_that_gets_on_does_not_hide_another_that_does_not() -> None:
    clock = Clock()
    watchdog = Watchdog(clock)
    with watchdog.step("engine", 10):
        for _ in range(20):
            with watchdog.step("front", 10):
                clock.now_s += 1
        assert watchdog.overdue() == "engine, overdue by 10 s"


def test_a_step_that_fails_is_over() -> None:
    clock = Clock()
    watchdog = Watchdog(clock)
    try:
        with watchdog.step("front", 1):
            raise ValueError
    except ValueError:
        clock.now_s = 100
    assert not watchdog.overdue()
