"""Sums of use: what is kept, what gateways share, and what happens when it cannot be."""

import asyncio
import importlib.util
import shutil
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

import pytest

from common.errors import QuotaExceeded, RateLimited
from gateway.keys.budgets import Budgets
from gateway.keys.ledger import Ledger, SqliteLedger, SumKey, UsageKey, Used
from gateway.keys.periods import DAY_S, date_of, day_named, left_of_month_s, month_of
from gateway.keys.record import KeyRecord, Limits, Rights, new_key
from gateway.keys.sums import Sums
from tests.contract.test_shared_rate_limit import Redis

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None or importlib.util.find_spec("redis") is None,
    reason="needs redis-server and the extra redis",
)
NOON_S = 20_000 * DAY_S + DAY_S / 2
TODAY = SumKey("key:a", "chat", "tokens_per_day", 20_000)


def key(**limits: int) -> KeyRecord:
    return new_key(Rights(chat=Limits(**limits)), 1).record


class Clock:
    def __init__(self) -> None:
        self.now_s = NOON_S

    def __call__(self) -> float:
        return self.now_s


def budgets() -> tuple[Budgets, Clock]:
    clock = Clock()
    return Budgets(Sums(SqliteLedger(None), clock), clock), clock


async def spend(limit: Budgets, record: KeyRecord, n_tokens: int) -> None:
    lease, _ = await limit.reserve(record, "chat", "m", n_tokens)
    lease.completion_tokens = n_tokens
    lease.close()


async def test_a_minute_is_the_last_sixty_seconds_not_that_of_the_clock() -> None:
    limit, clock = budgets()
    record = key(tokens_per_minute=100)
    clock.now_s += 50
    await spend(limit, record, 90)
    clock.now_s += 20
    # Ten seconds into the next minute five sixths of the last one count.
    with pytest.raises(RateLimited) as refused:
        await spend(limit, record, 60)
    wait_s = refused.value.retry_after_s
    assert wait_s is not None
    clock.now_s += wait_s + 0.01
    await spend(limit, record, 60)


async def test_the_wait_that_is_told_is_enough_and_not_much_too_long() -> None:
    for passed_s in (0, 10, 59):
        for spent, wanted in ((100, 1), (70, 50), (100, 100)):
            limit, clock = budgets()
            record = key(tokens_per_minute=100)
            clock.now_s += passed_s
            await spend(limit, record, spent)
            with pytest.raises(RateLimited) as refused:
                await spend(limit, record, wanted)
            wait_s = refused.value.retry_after_s or 0
            clock.now_s += wait_s * 0.9
            with pytest.raises(RateLimited):
                await spend(limit, record, wanted)
            clock.now_s += wait_s * 0.1 + 0.01
            await spend(limit, record, wanted)


async def test_a_day_ends_at_midnight_and_a_month_with_its_last_day() -> None:
    limit, clock = budgets()
    record = key(tokens_per_day=100, tokens_per_month=150)
    await spend(limit, record, 100)
    with pytest.raises(QuotaExceeded) as refused:
        await spend(limit, record, 1)
    clock.now_s += refused.value.retry_after_s or 0
    await spend(limit, record, 50)
    with pytest.raises(QuotaExceeded) as refused:
        await spend(limit, record, 1)
    clock.now_s += refused.value.retry_after_s or 0
    assert date_of(int(clock.now_s // DAY_S)).endswith("-01")
    await spend(limit, record, 100)


def test_dates_are_days_of_utc() -> None:
    assert day_named("1970-01-02") == 1
    assert date_of(day_named("2026-02-28") + 1) == "2026-03-01"
    december_s = day_named("2026-12-31") * DAY_S
    assert left_of_month_s(december_s) == DAY_S
    assert month_of(december_s + DAY_S) == month_of(december_s) + 1


async def test_a_request_that_one_limit_refuses_is_counted_by_none() -> None:
    limit, _ = budgets()
    record = key(tokens_per_minute=1000, tokens_per_day=10)
    with pytest.raises(QuotaExceeded):
        await spend(limit, record, 20)
    await spend(limit, record, 10)


class Broken:
    """A ledger that fails until it is repaired."""

    def __init__(self) -> None:
        self.inner = SqliteLedger(None)
        self.is_broken = True

    async def add(
        self, sums: Mapping[SumKey, int], usage: Mapping[UsageKey, Used], day: int
    ) -> dict[SumKey, int]:
        if self.is_broken:
            raise OSError("the disk is full")
        return await self.inner.add(sums, usage, day)

    async def read(self, keys: Iterable[SumKey]) -> dict[SumKey, int]:
        if self.is_broken:
            raise OSError("the disk is full")
        return await self.inner.read(keys)

    async def report(self, first: int, last: int, client: str | None) -> dict[UsageKey, Used]:
        return await self.inner.report(first, last, client)

    async def close(self) -> None:
        await self.inner.close()


async def test_while_the_ledger_fails_limits_hold_and_nothing_is_forgotten() -> None:
    ledger = Broken()
    sums = Sums(ledger, Clock())
    place = UsageKey(20_000, "key:a", "chat", "m")
    await sums.know([TODAY])
    for _ in range(2):
        sums.add(TODAY, 5)
        sums.add_usage(place, Used(1, 2, 3))
        await sums.tell()
    assert sums.get(TODAY) == 10
    ledger.is_broken = False
    await sums.tell()
    assert await ledger.read([TODAY]) == {TODAY: 10}
    assert await ledger.report(0, 30_000, None) == {place: Used(2, 4, 6)}
    await sums.tell()
    assert await ledger.read([TODAY]) == {TODAY: 10}, "told once"


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
async def shared(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Ledger, Ledger]]:
    """Two gateways' ledgers of the same usage."""
    if request.param == "sqlite":
        yield SqliteLedger(tmp_path / "usage"), SqliteLedger(tmp_path / "usage")
        return
    from gateway.keys.redis_ledger import RedisLedger

    running = Redis(tmp_path)
    try:
        await running.says("ping", "PONG")
        yield RedisLedger(running.uri), RedisLedger(running.uri)
    finally:
        running.process.kill()
        running.process.wait()


async def test_gateways_learn_what_the_others_counted(shared: tuple[Ledger, Ledger]) -> None:
    clock = Clock()
    one, other = (Sums(ledger, clock) for ledger in shared)
    place = UsageKey(20_000, "key:a", "chat", "m")
    one.add(TODAY, 5)
    one.add_usage(place, Used(1, 2, 3))
    await one.tell()
    await other.know([TODAY])
    assert other.get(TODAY) == 5
    other.add(TODAY, 7)
    other.add(TODAY, -1)
    other.add_usage(place, Used(1, 1, 1))
    await other.tell()
    one.add(TODAY, 1)
    await one.tell()
    assert one.get(TODAY) == 12
    found = await one.ledger.report(19_999, 20_000, "key:a")
    assert found == {place: Used(2, 3, 4)}
    assert await other.ledger.report(19_999, 20_000, "key:b") == {}
    for sums in (one, other):
        await sums.ledger.close()


@needs_redis
async def test_a_redis_that_dies_costs_no_request_its_answer(tmp_path: Path) -> None:
    from gateway.keys.redis_ledger import RedisLedger

    running = Redis(tmp_path)
    await running.says("ping", "PONG")
    sums = Sums(RedisLedger(running.uri), Clock())
    running.process.kill()
    await asyncio.to_thread(running.process.wait)
    await sums.know([TODAY])
    sums.add(TODAY, 5)
    await sums.tell()
    assert sums.get(TODAY) == 5
    await sums.ledger.close()
