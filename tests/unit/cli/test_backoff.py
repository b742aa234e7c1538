"""How long the supervisor waits before it starts a dead process again."""

from cli.backoff import Backoff, RestartPolicy


def test_waits_double_from_half_a_second_to_thirty() -> None:
    backoff = Backoff(RestartPolicy())
    waits = [backoff.died(now_s=100.0 * i, lived_s=1) for i in range(9)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_minute_of_health_starts_the_count_anew() -> None:
    backoff = Backoff(RestartPolicy())
    for i in range(4):
        backoff.died(now_s=i, lived_s=1)
    assert backoff.died(now_s=100, lived_s=60) == 0.5


def test_five_deaths_in_a_minute_are_a_crash_loop() -> None:
    backoff = Backoff(RestartPolicy())
    for i in range(4):
        backoff.died(now_s=i, lived_s=0)
    assert not backoff.is_crash_loop
    backoff.died(now_s=59, lived_s=0)
    assert backoff.is_crash_loop
    backoff.died(now_s=200, lived_s=0)
    assert not backoff.is_crash_loop


def test_days_of_crashes_do_not_overflow() -> None:
    backoff = Backoff(RestartPolicy())
    assert [backoff.died(now_s=30.0 * i, lived_s=0) for i in range(5000)][-1] == 30
