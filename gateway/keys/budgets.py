"""Limits of a key: requests a minute, and tokens a minute, day and month.

A minute is the last sixty seconds, estimated from the sums of two minutes of the clock: the minute
before counts by the part of it that still lies in those sixty seconds (a sliding-window counter).
Days and months begin in UTC.
"""

import math
import time
from collections.abc import Callable

from common.error_texts import ErrorText
from common.errors import QuotaExceeded, RateLimited
from gateway.keys import periods
from gateway.keys.endpoints import Kind
from gateway.keys.ledger import SumKey, UsageKey, Used
from gateway.keys.meters import Meter, Meters
from gateway.keys.record import KeyRecord
from gateway.keys.sums import Sums
from gateway.middleware.limit_headers import LimitState

MOST_METERS = 10_000
# Of the limits, in the headers of replies.
_NAMES = {
    periods.REQUESTS_PER_MINUTE: "requests",
    periods.TOKENS_PER_MINUTE: "tokens",
    periods.TOKENS_PER_DAY: "tokens-day",
    periods.TOKENS_PER_MONTH: "tokens-month",
}


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


class Budgets:
    """
    Args:
        clock: returns the seconds since the epoch.
    """

    def __init__(self, sums: Sums, clock: Callable[[], float] = time.time) -> None:
        self.sums = sums
        self._clock = clock
        self._meters: dict[tuple[str, Kind], Meters] = {}

    async def count_request(self, record: KeyRecord, kind: Kind) -> LimitState | None:
        """Count a request against the key's limit; None if it has none.

        Raises:
            RateLimited: it is over the limit, and not counted.
        """
        now_s = self._clock()
        meters = await self._of(record, kind, now_s)
        meter = meters.requests
        if meter is None:
            return None
        used = meter.used(self.sums, now_s)
        if used + 1 > meter.most:
            wait_s = meter.wait_s(self.sums, now_s, 1)
            text = ErrorText(
                "requests_limited", limit=meter.most, used=math.ceil(used), wait=_seconds(wait_s)
            )
            raise RateLimited(text, retry_after_s=wait_s)
        self.sums.add(meter.key, 1)
        return self._state(meter, "requests", used + 1, now_s)

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
        meters = (await self._of(record, kind, now_s)).tokens
        used = [meter.used(self.sums, now_s) for meter in meters]
        for meter, so_far in zip(meters, used, strict=True):
            if so_far + n_tokens > meter.most:
                raise self._refusal(meter, so_far, n_tokens, model, now_s)
        for meter in meters:
            self.sums.add(meter.key, n_tokens)
        usage = UsageKey(periods.day_of(now_s), record.client, kind, "")
        lease = Lease(self.sums, [meter.key for meter in meters], n_tokens, usage)
        return lease, [
            self._state(meter, "tokens", so_far + n_tokens, now_s)
            for meter, so_far in zip(meters, used, strict=True)
        ]

    async def _of(self, record: KeyRecord, kind: Kind, now_s: float) -> Meters:
        """The meters of the key, with what other gateways, or earlier ones, have counted."""
        place = record.client, kind
        meters = self._meters.get(place)
        if meters is None or meters.record is not record:
            if len(self._meters) >= MOST_METERS:
                self._meters.clear()
            meters = self._meters[place] = Meters(record, kind)
        if meters.at(now_s).keys:
            await self.sums.know(meters.keys)
        return meters

    def _state(self, meter: Meter, unit: str, used: float, now_s: float) -> LimitState:
        name = _NAMES[meter.key.measure]
        left = max(0, math.floor(meter.most - used))
        wait_s = meter.wait_s(self.sums, now_s, meter.most)
        return LimitState(name, unit, meter.most, meter.window_s, left, wait_s)

    def _refusal(
        self, meter: Meter, used: float, n_tokens: int, model: str, now_s: float
    ) -> RateLimited:
        wait_s, most = meter.wait_s(self.sums, now_s, n_tokens), meter.most
        so_far = math.ceil(used)
        match meter.key.measure:
            case periods.TOKENS_PER_DAY:
                text = ErrorText("quota_of_day", limit=most, used=so_far)
                return QuotaExceeded(text, retry_after_s=wait_s)
            case periods.TOKENS_PER_MONTH:
                text = ErrorText("quota_of_month", limit=most, used=so_far)
                return QuotaExceeded(text, retry_after_s=wait_s)
        if n_tokens > most:
            return RateLimited(
                ErrorText("tokens_too_many", model=model, limit=most, requested=n_tokens)
            )
        text = ErrorText(
            "tokens_limited", model=model, limit=most, used=so_far, requested=n_tokens,
            wait=_seconds(wait_s),
        )  # fmt: skip
        return RateLimited(text, retry_after_s=wait_s)


def _seconds(wait_s: float) -> str:
    return f"{max(wait_s, 0.001):.3g}s"
