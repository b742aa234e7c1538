"""What happens after requests, and only after them."""

import asyncio

import pytest

from gateway import idle_time
from gateway.idle_time import ForegroundRequests, return_memory
from tests.contract.running_gateway import soon


async def test_it_is_quiet_when_the_last_one_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_time, "QUIET_S", 0.01)
    found = ForegroundRequests()
    await soon(found.quiet())
    found.begin()
    found.begin()
    found.end()
    waiting = asyncio.create_task(found.quiet())
    await asyncio.sleep(0)
    assert not waiting.done()
    found.end()
    await soon(waiting)


async def test_memory_is_given_back_after_requests_and_not_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idle_time, "RETURN_EVERY_S", 0.001)
    loop, given = asyncio.get_running_loop(), asyncio.Event()
    times: list[int] = []

    def give_back() -> None:
        times.append(1)
        loop.call_soon_threadsafe(given.set)

    found = ForegroundRequests()
    returning = asyncio.create_task(return_memory(found, give_back))
    for n in range(3):
        # Without a request nothing happens, however often it looks.
        for _ in range(10):
            await asyncio.sleep(0.001)
        assert len(times) == n
        found.begin()
        found.end()
        await soon(given.wait())
        given.clear()
    returning.cancel()
