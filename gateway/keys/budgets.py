"""Limits of a key: requests a minute, and tokens a minute, day and month.

A minute is the last sixty seconds, estimated from the sums of two minutes of the clock: the minute
before counts by the part of it that still lies in those sixty seconds (a sliding-window counter).
Days and months begin in UTC.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from common.error_texts import ErrorText
from common.errors import QuotaExceeded, RateLimited
from gateway.keys import periods
from gateway.keys.endpoints import Kind
from gateway.keys.ledger import SumKey, UsageKey, Used
from gateway.keys.record import KeyRecord
from gateway.keys.sums import Sums
from gateway.middleware.limit_headers import LimitState

MINUTE = 60


class Lease:
    """Tokens that a request has reserved; `close` gives back what it did not use.

    `prompt_tokens` and `completion_tokens` are what it has used so far, and `model` what it used.
    """

    def __init__(
        self, sums: Sums, reserved: list[SumKey], n_tokens: int, usage: UsageKey | None
    ) -> None:
        self._sums = sums
        self._reserved = reserved
        self._n_tokens = n_tokens
        self._usage = usage
        self.model = ""
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def close(self) -> None:
        """Count what was used instead of what was reserved; in `finally`, and once."""
        unused = self._n_tokens - self.prompt_tokens - self.completion_tokens
        if unused:
            for key in self._reserved:
                self._sums.add(key, -unused)
        if self._usage is not None:
            used = Used(1, self.prompt_tokens, self.completion_tokens)
            self._sums.add_usage(self._usage._replace(model=self.model), used)


class _Limit(NamedTuple):
    """One limit of a key now. `wait_s(n)`: how long until `n` more fit."""

    key: SumKey
    most: int
    used: float
    window_s: float
    wait_s: Callable[[int], float]

    @property
    def left(self) -> int:
        return max(0, math.floor(self.most - self.used))


class Budgets:
    """
    Args:
        clock: returns the seconds since the epoch.
    """

    def __init__(self, sums: Sums, clock: Callable[[], float] = time.time) -> None:
        self.sums = sums
        self._clock = clock

    async def count_request(self, record: KeyRecord, kind: Kind) -> LimitState | None:
        """Count a request against the key's limit; None if it has none.

        Raises:
            RateLimited: it is over the limit, and not counted.
        """
        most = getattr(record, kind).requests_per_minute
        if most is None:
            return None
        now_s = self._clock()
        await self.sums.know(_minutes(record, kind, periods.REQUESTS_PER_MINUTE, now_s))
        limit = self._minute(record, kind, periods.REQUESTS_PER_MINUTE, most, now_s)
        if limit.left < 1:
            raise RateLimited(
                ErrorText(
                    "requests_limited", limit=most, used=math.ceil(limit.used),
                    wait=_seconds(limit.wait_s(1)),
                ),
                retry_after_s=limit.wait_s(1),
            )  # fmt: skip
        self.sums.add(limit.key, 1)
        left = limit.left - 1
        return LimitState("requests", "requests", most, MINUTE, left, limit.wait_s(most))

    async def reserve(
        self, record: KeyRecord | None, kind: Kind, model: str, n_tokens: int
    ) -> tuple[Lease, list[LimitState]]:
        """Reserve tokens of all the key's limits, or of none.

        Args:
            record: None: the client has no key, and no limits of tokens.
            n_tokens: the prompt's, estimated, and as many as may be generated.
        Raises:
            RateLimited: they are more than a minute's limit leaves now, or at any time.
            QuotaExceeded: they are more than the day or the month leaves.
        """
        if record is None:
            return Lease(self.sums, [], n_tokens, None), []
        now_s = self._clock()
        await self._know(record, kind, now_s)
        limits = list(self._token_limits(record, kind, now_s))
        for limit in limits:
            _check(limit, n_tokens, model)
        for limit in limits:
            self.sums.add(limit.key, n_tokens)
        usage = UsageKey(periods.day_of(now_s), record.client, kind, "")
        lease = Lease(self.sums, [limit.key for limit in limits], n_tokens, usage)
        return lease, [_state(limit, n_tokens) for limit in limits]

    async def _know(self, record: KeyRecord, kind: Kind, now_s: float) -> None:
        given = getattr(record, kind)
        keys: list[SumKey] = []
        if given.tokens_per_minute is not None:
            keys += _minutes(record, kind, periods.TOKENS_PER_MINUTE, now_s)
        if given.tokens_per_day is not None:
            keys.append(_day(record, kind, now_s))
        if given.tokens_per_month is not None:
            keys.append(_month(record, kind, now_s))
        if keys:
            await self.sums.know(keys)

    def _token_limits(self, record: KeyRecord, kind: Kind, now_s: float) -> Iterator[_Limit]:
        given = getattr(record, kind)
        if (most := given.tokens_per_minute) is not None:
            yield self._minute(record, kind, periods.TOKENS_PER_MINUTE, most, now_s)
        if (most := given.tokens_per_day) is not None:
            left_s = periods.left_of_day_s(now_s)
            key = _day(record, kind, now_s)
            yield _Limit(key, most, self.sums.get(key), periods.DAY_S, lambda _: left_s)
        if (most := given.tokens_per_month) is not None:
            rest_s = periods.left_of_month_s(now_s)
            key = _month(record, kind, now_s)
            yield _Limit(key, most, self.sums.get(key), 30 * periods.DAY_S, lambda _: rest_s)

    def _minute(
        self, record: KeyRecord, kind: Kind, measure: str, most: int, now_s: float
    ) -> _Limit:
        before, now = (self.sums.get(key) for key in _minutes(record, kind, measure, now_s))
        passed_s = now_s % periods.MINUTE_S
        used = now + before * (1 - passed_s / periods.MINUTE_S)
        key = SumKey(record.client, kind, measure, periods.minute_of(now_s))
        return _Limit(
            key, most, used, MINUTE, lambda n: _until_fits_s(most - n, before, now, passed_s)
        )


def _until_fits_s(room: int, before: int, now: int, passed_s: float) -> float:
    """Seconds until the estimate of the last minute is at most `room`, or nothing."""
    minute_s, room = periods.MINUTE_S, max(room, 0)
    if now <= room:
        # Enough of the minute before has to go.
        part = 1 - (room - now) / before if before else 0.0
        return max(0.0, part * minute_s - passed_s)
    part = 1 - room / now
    return minute_s - passed_s + part * minute_s


def _check(limit: _Limit, n_tokens: int, model: str) -> None:
    is_minute = limit.key.measure == periods.TOKENS_PER_MINUTE
    if n_tokens > limit.most and is_minute:
        raise RateLimited(
            ErrorText("tokens_too_many", model=model, limit=limit.most, requested=n_tokens)
        )
    if limit.used + n_tokens <= limit.most:
        return
    wait_s = limit.wait_s(n_tokens)
    if not is_minute:
        used = math.ceil(limit.used)
        if limit.key.measure == periods.TOKENS_PER_DAY:
            text = ErrorText("quota_of_day", limit=limit.most, used=used)
        else:
            text = ErrorText("quota_of_month", limit=limit.most, used=used)
        raise QuotaExceeded(text, retry_after_s=wait_s)
    raise RateLimited(
        ErrorText(
            "tokens_limited", model=model, limit=limit.most, used=math.ceil(limit.used),
            requested=n_tokens, wait=_seconds(wait_s),
        ),
        retry_after_s=wait_s,
    )  # fmt: skip


def _state(limit: _Limit, n_tokens: int) -> LimitState:
    name = limit.key.measure.replace("_per_", "-").removesuffix("-minute")
    left = max(0, limit.left - n_tokens)
    return LimitState(
        name, "tokens", limit.most, int(limit.window_s), left, limit.wait_s(limit.most)
    )


def _minutes(record: KeyRecord, kind: Kind, measure: str, now_s: float) -> tuple[SumKey, SumKey]:
    """The sums of the minute before, and of this one."""
    minute = periods.minute_of(now_s)
    return (
        SumKey(record.client, kind, measure, minute - 1),
        SumKey(record.client, kind, measure, minute),
    )


def _day(record: KeyRecord, kind: Kind, now_s: float) -> SumKey:
    return SumKey(record.client, kind, periods.TOKENS_PER_DAY, periods.day_of(now_s))


def _month(record: KeyRecord, kind: Kind, now_s: float) -> SumKey:
    return SumKey(record.client, kind, periods.TOKENS_PER_MONTH, periods.month_of(now_s))


def _seconds(wait_s: float) -> str:
    return f"{max(wait_s, 0.001):.3g}s"
