"""Fair shares: who is served next, whatever the order in which they came."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from common.errors import DeadlineExceeded, Overloaded
from gateway.sharing import fair_queue
from gateway.sharing.fair_queue import Ask, FairQueue
from tests.contract.running_gateway import until


class Served:
    """A queue in front of a model with a few places; turns end when a test says so."""

    def __init__(self, places: int | None) -> None:
        self.queue = FairQueue(lambda _: places)
        self.order: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._ends: list[asyncio.Event] = []

    async def ask(self, client: str, n_tokens: int = 10, **more: Any) -> asyncio.Task[None]:
        """Enter the queue; returns when the request is in it."""
        entered = asyncio.Event()

        async def run() -> None:
            asking = Ask("m", client, n_tokens, **more)
            async with self.queue.turn(asking, lambda _: entered.set()):
                entered.set()
                end = asyncio.Event()
                self._ends.append(end)
                self.order.append(client)
                await end.wait()

        task = asyncio.create_task(run())
        self.tasks.append(task)
        async with asyncio.timeout(10):
            await entered.wait()
        return task

    async def serve(self, n: int) -> list[str]:
        """End the running ones, one after the other, until `n` more have been served."""
        begin = len(self.order)
        while len(self.order) < begin + n:
            so_far = len(self.order)
            self._ends.pop(0).set()
            await until(lambda: len(self.order) > so_far)  # noqa: B023 - awaited at once
        return self.order[begin:]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[int | None], Served]]:
    made: list[Served] = []

    def make(places: int | None = 1) -> Served:
        made.append(Served(places))
        return made[-1]

    yield make
    for served in made:
        for task in served.tasks:
            task.cancel()
        await asyncio.gather(*served.tasks, return_exceptions=True)
        assert served.queue._lanes == {}  # noqa: SLF001 - a lane that stays is a leak


async def test_one_with_many_waiting_does_not_starve_one_with_a_single_request(
    serve: Callable[..., Served],
) -> None:
    served = serve()
    for _ in range(200):
        await served.ask("many")
    await served.ask("one")
    assert (await served.serve(2)).index("one") <= 1


async def test_shares_are_counted_in_tokens_not_in_requests(serve: Callable[..., Served]) -> None:
    served = serve()
    for _ in range(20):
        await served.ask("long", 100)
        await served.ask("short", 20)
    n = Counter(await served.serve(18))
    assert n["short"] / n["long"] == pytest.approx(5, rel=0.4)


async def test_a_higher_priority_has_a_larger_share_and_starves_nobody(
    serve: Callable[..., Served],
) -> None:
    served = serve()
    for _ in range(30):
        await served.ask("usual")
        await served.ask("more", priority=4)
    n = Counter(await served.serve(25))
    assert n["more"] / n["usual"] == pytest.approx(4, rel=0.3)


async def test_background_work_waits_for_all_others_but_not_for_ever(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve()
    await served.ask("running")
    await served.ask("night", background=True)
    for _ in range(3):
        await served.ask("day")
    assert await served.serve(2) == ["day", "day"]
    monkeypatch.setattr(fair_queue, "PATIENCE_S", 0.0)
    assert await served.serve(1) == ["night"]


async def test_tokens_that_were_not_used_do_not_count(serve: Callable[..., Served]) -> None:
    served = serve()
    # Both count for 100, until it is known that the first one used a tenth of it.
    async with served.queue.turn(Ask("m", "modest", 100)) as turn:
        for _ in range(3):
            await served.ask("greedy", 20)
            await served.ask("modest", 20)
        turn.n_used = 10
    await until(lambda: served.order == ["modest"])
    assert await served.serve(3) == ["modest", "modest", "greedy"]


async def test_whoever_leaves_the_queue_or_the_worker_gives_the_place_to_the_next(
    serve: Callable[..., Served],
) -> None:
    served = serve()
    first = await served.ask("a")
    second = await served.ask("b")
    await served.ask("c")
    second.cancel()
    first.cancel()
    await until(lambda: served.order == ["a", "c"])


async def test_ten_thousand_departures_leave_no_place_taken() -> None:
    queue = FairQueue(lambda _: 4)

    @asynccontextmanager
    async def asked(n: int) -> AsyncIterator[None]:
        async with queue.turn(Ask("m", f"k{n % 7}", 10, within_s=60)):
            yield

    async def leave(n: int) -> None:
        async with asked(n):
            await asyncio.sleep(0)

    for at in range(0, 10_000, 500):
        tasks = [asyncio.create_task(leave(n)) for n in range(at, at + 500)]
        for _ in range(at % 5):
            await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert queue._lanes == {}  # noqa: SLF001 - what is left would show nowhere else


async def test_a_turn_that_does_not_come_in_time_is_a_failure(serve: Callable[..., Served]) -> None:
    served = serve()
    await served.ask("a")
    with pytest.raises(DeadlineExceeded):
        async with served.queue.turn(Ask("m", "b", 1, within_s=0.01)):
            pass


async def test_the_queue_is_bounded(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fair_queue, "MOST_WAITING", 1)
    served = serve()
    await served.ask("a")
    await served.ask("b")
    with pytest.raises(Overloaded):
        async with served.queue.turn(Ask("m", "c", 1)):
            pass


async def test_without_a_limit_nobody_waits(serve: Callable[..., Served]) -> None:
    served = serve(None)
    for _ in range(50):
        await served.ask("a")
    assert len(served.order) == 50


async def test_a_request_with_more_choices_than_places_runs_alone(
    serve: Callable[..., Served],
) -> None:
    served = serve(2)
    await served.ask("a", n_choices=8)
    await served.ask("b")
    assert served.order == ["a"]
    assert await served.serve(1) == ["b"]
