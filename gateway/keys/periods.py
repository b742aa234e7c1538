"""Minutes, days and months of UTC as numbers, by which use is counted."""

import datetime
import math

MINUTE_S, DAY_S = 60.0, 86_400.0
# The periods of limits, by the names of the fields of `Limits`.
REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE = "requests_per_minute", "tokens_per_minute"
TOKENS_PER_DAY, TOKENS_PER_MONTH = "tokens_per_day", "tokens_per_month"


def minute_of(now_s: float) -> int:
    return int(now_s // MINUTE_S)


def day_of(now_s: float) -> int:
    """Days since the epoch."""
    return int(now_s // DAY_S)


def month_of(now_s: float) -> int:
    """Months since the year 0."""
    date = datetime.datetime.fromtimestamp(now_s, datetime.UTC)
    return date.year * 12 + date.month - 1


def left_of_day_s(now_s: float) -> float:
    return DAY_S - now_s % DAY_S


def left_of_month_s(now_s: float) -> float:
    year, month = divmod(month_of(now_s) + 1, 12)
    return datetime.datetime(year, month + 1, 1, tzinfo=datetime.UTC).timestamp() - now_s


def date_of(day: int) -> str:
    """A day as "2026-11-29"."""
    return datetime.datetime.fromtimestamp(day * DAY_S, datetime.UTC).date().isoformat()


def day_named(date: str) -> int:
    """The day that is written as "2026-11-29".

    Raises:
        ValueError: it is not written so.
    """
    parsed = datetime.datetime.combine(
        datetime.date.fromisoformat(date), datetime.time(), datetime.UTC
    )
    return math.floor(parsed.timestamp() / DAY_S)
