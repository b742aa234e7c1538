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


def test_five_deaths_in_a_minute_open_the_breaker_and_a_minute_of_health_closes_it() -> None:
    backoff = Backoff(RestartPolicy())
    for i in range(4):
        backoff.died(now_s=i, lived_s=0)
    assert not backoff.is_open
    assert backoff.died(now_s=59, lived_s=0) == 60
    assert backoff.is_open
    assert backoff.died(now_s=400, lived_s=280) == 0.5
    assert not backoff.is_open


def test_ten_deaths_in_a_row_open_it_however_slow_they_are() -> None:
    backoff = Backoff(RestartPolicy())
    waits = [backoff.died(now_s=70.0 * i, lived_s=40) for i in range(10)]
    assert waits[-2:] == [30, 60]
    assert backoff.is_open


def test_an_open_breaker_tries_ever_more_seldom_and_then_not_at_all() -> None:
    backoff = Backoff(RestartPolicy())
    waits = [backoff.died(now_s=i, lived_s=0) for i in range(15)]
    assert waits[4:] == [60, 120, 240, 480, 900, 900, 900, 900, 900, 900, None]
