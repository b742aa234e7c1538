"""The retry budget, the shares of versions, and when a second worker is asked."""

import asyncio
from collections import Counter

import pytest

from gateway.pool.endpoint import Endpoint
from gateway.pool.hedging import LEAST_KNOWN, Hedging
from gateway.pool.retry_budget import RESERVE, RetryBudget
from gateway.pool.versions import Versions
from gateway.worker_targets import parse_targets


def test_an_outage_adds_a_fifth_to_the_load_and_a_lost_workers_calls_once() -> None:
    budget = RetryBudget()
    n_calls = 10_000
    for _ in range(n_calls):
        budget.earn()
        budget.take()
    assert budget.n_taken <= 0.2 * n_calls + RESERVE
    assert budget.n_taken + budget.n_refused == n_calls
    for _ in range(n_calls):
        budget.earn()
    assert all(budget.take() for _ in range(int(RESERVE)))


def endpoints(*targets: str) -> list[Endpoint]:
    return [Endpoint(f"{number}:1", target) for number, target in enumerate(targets)]


def chosen(versions: Versions, candidates: list[Endpoint]) -> Counter[str]:
    found: Counter[str] = Counter()
    for number in range(1000):
        picked = versions.choose(candidates, (number + 0.5) / 1000)
        found[",".join(sorted({endpoint.target for endpoint in picked}))] += 1
    return found


def test_a_new_version_gets_its_share_and_keeps_its_conversations() -> None:
    versions = Versions(parse_targets(["old:1", "other:1", "new:1@5%"]))
    all_ = endpoints("old:1", "other:1", "new:1")
    assert chosen(versions, all_) == {"new:1": 50, "old:1,other:1": 950}
    assert versions.choose(all_, 0.3) == versions.choose(all_, 0.3)
    # Nothing is lost where one of the versions is gone.
    assert chosen(versions, all_[2:]) == {"new:1": 1000}
    assert chosen(versions, all_[:1]) == {"old:1": 1000}


def test_a_share_of_nothing_is_for_when_there_is_nobody_else() -> None:
    versions = Versions(parse_targets(["a:1", "b:1@0%"]))
    assert chosen(versions, endpoints("a:1", "b:1")) == {"a:1": 1000}
    assert chosen(versions, endpoints("b:1")) == {"b:1": 1000}
    assert not Versions(parse_targets(["a:1", "b:1"]))


@pytest.mark.parametrize(
    "wrong", ["a:1@5", "a:1@x%,b:1", "a:1@-5%,b:1", "a:1@101%", "a:1@60%,b:1@60%", "a:1@50%"]
)
def test_shares_that_make_no_whole_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="share"):
        parse_targets(wrong.split(","))


async def test_a_second_worker_is_asked_after_the_usual_time_and_the_first_answer_counts() -> None:
    hedging = Hedging()
    for _ in range(LEAST_KNOWN):
        hedging.note(0.001)
    ended: list[str] = []

    async def call(name: str, *, fails: bool = False, slow: bool = False) -> str:
        try:
            if slow:
                await asyncio.Event().wait()
            if fails:
                raise ValueError(name)
            return name
        finally:
            ended.append(name)

    slow = call("slow", slow=True)
    assert await hedging.answer(slow, lambda: True, lambda: call("second")) == "second"
    assert ended == ["second", "slow"], "the other call is cancelled"
    assert (hedging.n_sent, hedging.n_won) == (1, 1)
    assert await hedging.answer(call("quick"), lambda: True, lambda: call("x")) == "quick"
    with pytest.raises(ValueError, match="alone"):
        await hedging.answer(call("alone", fails=True), lambda: False, lambda: call("x"))


async def test_a_second_call_that_fails_leaves_the_first_its_chance() -> None:
    hedging = Hedging()
    hedging.after_s = 0.001
    has_failed = asyncio.Event()

    async def first() -> str:
        await has_failed.wait()
        return "first"

    async def second() -> str:
        has_failed.set()
        raise ValueError

    assert await hedging.answer(first(), lambda: True, second) == "first"
    assert hedging.n_won == 0
