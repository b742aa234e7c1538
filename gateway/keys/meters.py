"""The limits of one key for one kind of work, with the sums that count for them now.

What changes with the minute or the day only is kept until then, because every request asks.
"""

from typing import NamedTuple

from gateway.keys import periods
from gateway.keys.endpoints import Kind
from gateway.keys.ledger import SumKey
from gateway.keys.record import KeyRecord, Limits
from gateway.keys.sums import Sums

MINUTE, DAY, MONTH = 60, 86_400, 30 * 86_400


class Meter(NamedTuple):
    """One limit now.

    Args:
        key: of the sum that is counted up.
        before: of the minute before; None for days and months.
        window_s: the length of the period.
        ends_s: when the period is over, in seconds since the epoch.
    """

    key: SumKey
    before: SumKey | None
    most: int
    window_s: int
    ends_s: float

    def used(self, sums: Sums, now_s: float) -> float:
        """What counts now: of the last sixty seconds, or since the day or month began."""
        used = sums.get(self.key)
        if self.before is None:
            return used
        before = sums.get(self.before)
        return used + before * (self.ends_s - now_s) / MINUTE if before else used

    def wait_s(self, sums: Sums, now_s: float, n: int) -> float:
        """Seconds until `n` more are within the limit."""
        left_s = self.ends_s - now_s
        if self.before is None:
            return left_s
        room = max(self.most - n, 0)
        before, now = sums.get(self.before), sums.get(self.key)
        if now <= room:
            # Enough of the minute before has to go.
            part = 1 - (room - now) / before if before else 0.0
            return max(0.0, part * MINUTE - (MINUTE - left_s))
        return left_s + (1 - room / now) * MINUTE


class Meters:
    """The meters of one key and kind, made anew when the minute changes."""

    def __init__(self, record: KeyRecord, kind: Kind) -> None:
        self.record = record
        self._kind = kind
        self._limits: Limits = getattr(record, kind)
        self._minute = -1
        self.requests: Meter | None = None
        self.tokens: list[Meter] = []
        # The keys of all sums that count.
        self.keys: list[SumKey] = []

    def at(self, now_s: float) -> "Meters":
        minute = periods.minute_of(now_s)
        if minute != self._minute:
            self._minute = minute
            self._make(now_s, minute)
        return self

    def _make(self, now_s: float, minute: int) -> None:
        limits, day = self._limits, periods.day_of(now_s)
        most = limits.requests_per_minute
        self.requests = self._of_minute(periods.REQUESTS_PER_MINUTE, most, minute) if most else None
        self.tokens = []
        if most := limits.tokens_per_minute:
            self.tokens.append(self._of_minute(periods.TOKENS_PER_MINUTE, most, minute))
        if most := limits.tokens_per_day:
            ends_s = now_s + periods.left_of_day_s(now_s)
            self.tokens.append(
                Meter(self._key(periods.TOKENS_PER_DAY, day), None, most, DAY, ends_s)
            )
        if most := limits.tokens_per_month:
            ends_s = now_s + periods.left_of_month_s(now_s)
            key = self._key(periods.TOKENS_PER_MONTH, periods.month_of(now_s))
            self.tokens.append(Meter(key, None, most, MONTH, ends_s))
        meters = [*self.tokens, *([self.requests] if self.requests else [])]
        self.keys = [key for meter in meters for key in (meter.key, meter.before) if key]

    def _of_minute(self, measure: str, most: int, minute: int) -> Meter:
        return Meter(
            self._key(measure, minute),
            self._key(measure, minute - 1),
            most,
            MINUTE,
            (minute + 1) * periods.MINUTE_S,
        )

    def _key(self, measure: str, period: int) -> SumKey:
        return SumKey(self.record.client, self._kind, measure, period)
