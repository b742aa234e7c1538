"""Large requests take turns; small ones, and those that nobody here prepares, do not."""

import asyncio
import threading

from chat_worker.large_requests import LARGE_BYTES, LargeRequests

BACKEND = "llama.cpp"


async def held(requests: LargeRequests, n_bytes: int, backend: str = BACKEND) -> "Holder":
    holder = Holder(requests, n_bytes, backend)
    # It has its turn at once, or waits for it.
    await asyncio.sleep(0)
    return holder


class Holder:
    """Takes a turn and keeps it until it is told."""

    def __init__(self, requests: LargeRequests, n_bytes: int, backend: str) -> None:
        self.has_turn = asyncio.Event()
        self.prepared = asyncio.Event()
        self.finished = asyncio.Event()
        self.task = asyncio.create_task(self._hold(requests, n_bytes, backend))

    async def _hold(self, requests: LargeRequests, n_bytes: int, backend: str) -> None:
        async with requests.turn(n_bytes, backend) as turn:
            self.has_turn.set()
            await self.prepared.wait()
            turn.end()
            turn.end()
            await self.finished.wait()


async def test_the_next_large_request_goes_when_the_one_before_is_prepared() -> None:
    requests = LargeRequests()
    first, second, third = [await held(requests, LARGE_BYTES) for _ in range(3)]
    assert [h.has_turn.is_set() for h in (first, second, third)] == [True, False, False]
    first.prepared.set()
    await second.has_turn.wait()
    assert not third.has_turn.is_set()
    for holder in (second, third):
        holder.prepared.set()
    for holder in (first, second, third):
        holder.finished.set()
        await holder.task


async def test_small_requests_and_those_of_other_servers_wait_for_nobody() -> None:
    requests = LargeRequests()
    large = await held(requests, LARGE_BYTES)
    small = await held(requests, LARGE_BYTES - 1)
    remote = await held(requests, LARGE_BYTES, "remote")
    assert small.has_turn.is_set()
    assert remote.has_turn.is_set()
    for holder in (large, small, remote):
        holder.task.cancel()


async def test_whoever_leaves_gives_its_turn_to_the_next() -> None:
    requests = LargeRequests()
    first, second, third = [await held(requests, LARGE_BYTES) for _ in range(3)]
    second.task.cancel()
    first.task.cancel()
    await third.has_turn.wait()
    third.task.cancel()


async def test_large_requests_are_translated_beside_the_event_loop() -> None:
    requests = LargeRequests()
    small = await requests.translated(lambda _: threading.current_thread(), None, 1)
    large = await requests.translated(lambda _: threading.current_thread(), None, LARGE_BYTES)
    assert small is threading.current_thread()
    assert large is not small
