"""A `Ledger` in Redis, for gateways of several machines."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from redis.asyncio import from_url
from redis.exceptions import RedisError

from gateway.keys.ledger import KEPT_DAYS, SumKey, UsageKey, Used
from gateway.keys.periods import DAY_S

ANSWER_WITHIN_S = 1.0
SUM_EXPIRES_S = int(32 * DAY_S)
USAGE_EXPIRES_S = int(KEPT_DAYS * DAY_S)
_PARTS = "\t"


class RedisLedger:
    """
    Args:
        uri: such as "redis://host:6379".
    """

    def __init__(self, uri: str) -> None:
        self._redis: Any = from_url(uri, decode_responses=True)

    async def add(
        self, sums: Mapping[SumKey, int], usage: Mapping[UsageKey, Used], day: int
    ) -> dict[SumKey, int]:
        batch = self._redis.pipeline(transaction=True)
        for key, n in sums.items():
            batch.incrby(_name(key), n)
        for key in sums:
            batch.expire(_name(key), SUM_EXPIRES_S)
        for place, used in usage.items():
            for what, n in used._asdict().items():
                field = _PARTS.join((place.client, place.kind, place.model, what))
                batch.hincrby(_day_name(place.day), field, n)
        for one in {place.day for place in usage}:
            batch.expire(_day_name(one), USAGE_EXPIRES_S)
        found = await self._answer(batch.execute())
        return dict(zip(sums, found, strict=False))

    async def read(self, keys: Iterable[SumKey]) -> dict[SumKey, int]:
        asked = list(keys)
        found = await self._answer(self._redis.mget([_name(key) for key in asked]))
        return {key: int(n) for key, n in zip(asked, found, strict=True) if n is not None}

    async def report(self, first: int, last: int, client: str | None) -> dict[UsageKey, Used]:
        batch = self._redis.pipeline(transaction=False)
        days = range(first, last + 1)
        for day in days:
            batch.hgetall(_day_name(day))
        rows: dict[UsageKey, Used] = {}
        for day, fields in zip(days, await self._answer(batch.execute()), strict=True):
            for field, n in fields.items():
                whose, kind, model, what = field.split(_PARTS)
                if client in (None, whose):
                    key = UsageKey(day, whose, kind, model)
                    rows[key] = rows.get(key, Used())._replace(**{what: int(n)})
        return rows

    async def close(self) -> None:
        await self._redis.aclose()

    async def _answer(self, asked: Any) -> Any:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await asked
        except RedisError as error:
            raise OSError(str(error)) from error


def _name(key: SumKey) -> str:
    return f"y26hkx:sum:{key.client}:{key.kind}:{key.measure}:{key.period}"


def _day_name(day: int) -> str:
    return f"y26hkx:usage:{day}"
