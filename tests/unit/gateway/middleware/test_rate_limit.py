"""Rate limits go on when their shared storage, or the clock, does not."""

import asyncio
import time
from typing import Any

import pytest
from limits.errors import StorageError

from gateway.middleware.rate_limit import SHARED_BUDGET_S, RateLimit


class Shared:
    """A shared limiter that behaves as `behave` does."""

    def __init__(self, behave: Any) -> None:
        self.behave = behave
        self.n_asked = 0

    async def hit(self, *_: object) -> bool:
        self.n_asked += 1
        await self.behave()
        return True


async def hangs() -> None:
    await asyncio.Event().wait()


async def is_dead() -> None:
    raise StorageError(ConnectionError("refused"))


@pytest.mark.parametrize("behave", [hangs, is_dead])
async def test_a_broken_storage_costs_its_budget_once_and_local_counts_decide(
    behave: object,
) -> None:
    limit = RateLimit("2/minute", "")
    shared = Shared(behave)
    limit.shared = shared  # type: ignore[assignment]
    async with asyncio.timeout(SHARED_BUDGET_S * 40):
        allowed = [(await limit.hit("a"))[0] for _ in range(3)]
    assert allowed == [True, True, False]
    assert shared.n_asked == 1


async def test_a_clock_set_back_a_day_does_not_refuse_for_a_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = RateLimit("1/minute", "")
    assert (await limit.hit("a"))[0]
    assert not (await limit.hit("a"))[0]
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 86_400)
    assert (await limit.hit("a"))[0]


async def test_clients_are_counted_apart() -> None:
    limit = RateLimit("1/minute", "")
    assert [(await limit.hit(who))[0] for who in ("a", "b", "a")] == [True, True, False]
