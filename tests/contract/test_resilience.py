"""Workers that fail, hang, vanish or are new, under load: what clients notice, and metrics."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from common import errors
from gateway.pool.hedging import LEAST_KNOWN
from protos.y26hkx.v1 import embed_pb2
from tests.contract.failures import BODY, CHAT, EMBED, raising
from tests.contract.running_gateway import RunningGateway, running_gateway, until
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import row_numbers

LOST = errors.WorkerLost("gone", retry_after_s=1)
Statuses = Counter[int]


async def chats(gateway: RunningGateway, numbers: Sequence[int]) -> Statuses:
    """The statuses of as many conversations at once."""
    bodies = [
        BODY | {"messages": [{"role": "user", "content": f"conversation {number}"}]}
        for number in numbers
    ]
    asked = (gateway.http.post(CHAT, json=body) for body in bodies)
    return Counter(reply.status_code for reply in await asyncio.gather(*asked))


async def embeds(gateway: RunningGateway, n: int) -> Statuses:
    asked = (gateway.http.post(EMBED, json={"input": "x"}) for _ in range(n))
    return Counter(reply.status_code for reply in await asyncio.gather(*asked))


async def metric(gateway: RunningGateway, name: str) -> float:
    lines = (await gateway.http.get("/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


async def test_a_worker_that_loses_all_its_calls_gets_no_more_and_clients_notice_nothing() -> None:
    async with AsyncExitStack() as stack:
        broken, *sound = [
            await stack.enter_async_context(ScriptedWorker(generate))
            for generate in (raising(LOST), *([ScriptedWorker().generate] * 2))
        ]
        gateway = await stack.enter_async_context(running_gateway([broken, *sound]))
        for wave in range(10):
            assert await chats(gateway, range(20 * wave, 20 * wave + 20)) == {200: 20}
        assert 5 <= len(broken.calls) <= 25, "it would have had a third of 200"
        assert await metric(gateway, "y26hkx_worker_left_out") == 1
        assert await metric(gateway, 'y26hkx_worker_ejections_total{reason="failures"') >= 1
        left_out = (await gateway.http.get("/health/detailed")).json()["workers"]["chat"]
        assert [worker["left_out"] for worker in left_out].count("failures") == 1


async def test_calls_that_a_vanishing_worker_has_not_answered_are_answered_by_another() -> None:
    async def hangs(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with (
        ScriptedWorker(embed=hangs) as vanishing,
        ScriptedWorker() as other,
        running_gateway([vanishing, other]) as gateway,
    ):
        asking = asyncio.create_task(embeds(gateway, 60))
        await until(lambda: len(vanishing.calls) + len(other.calls) == 60)
        assert len(vanishing.calls) >= 20
        await vanishing.stop()
        assert await asking == {200: 60}
        assert (
            await metric(gateway, 'y26hkx_worker_retries_total{kind="embed",outcome="made"') >= 20
        )


async def test_in_an_outage_workers_get_few_calls_twice() -> None:
    full = errors.Overloaded("full", retry_after_s=1)
    async with (
        ScriptedWorker(raising(full)) as one,
        ScriptedWorker(raising(full)) as two,
        running_gateway([one, two]) as gateway,
    ):
        gateway.services.pool.chat.retries.balance = 3
        for _ in range(5):
            assert await chats(gateway, range(20)) == {429: 20}
        assert len(one.calls) + len(two.calls) <= 100 + 3 + 20
        refused = 'y26hkx_worker_retries_total{kind="chat",outcome="refused"'
        assert await metric(gateway, refused) >= 77


async def test_a_new_version_gets_its_share_and_its_conversations_stay() -> None:
    async with ScriptedWorker() as old, ScriptedWorker() as new:
        targets = {"chat_workers": f"{old.address},{new.address}@20%"}
        async with running_gateway([old, new], **targets) as gateway:
            for _ in range(2):
                for wave in range(5):
                    assert await chats(gateway, range(20 * wave, 20 * wave + 20)) == {200: 20}
            share = len(new.calls) / 200
            assert 0.08 <= share <= 0.36
            begun = Counter(str(call.request.conversation) for call in new.calls)
            assert set(begun.values()) == {2}
            calls = (
                f'y26hkx_worker_calls_total{{kind="chat",outcome="answered",target="{new.address}"'
            )
            assert await metric(gateway, calls) == len(new.calls)
            await new.stop()
            assert await chats(gateway, range(20)) == {200: 20}


@pytest.mark.parametrize("hedged", [True, False])
async def test_a_second_worker_answers_where_the_first_hangs_if_that_is_switched_on(
    hedged: bool,
) -> None:
    may_end = asyncio.Event()

    async def hangs(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
        await may_end.wait()
        return await row_numbers(request)

    settings: dict[str, Any] = {"hedge_embeddings": hedged}
    async with (
        ScriptedWorker() as slow,
        ScriptedWorker() as quick,
        running_gateway([slow, quick], **settings) as gateway,
    ):
        for _ in range(LEAST_KNOWN // 16 + 1):
            assert await embeds(gateway, 16) == {200: 16}
        slow.embed = hangs
        before = len(slow.calls)
        asking = asyncio.create_task(embeds(gateway, 12))
        await until(lambda: len(slow.calls) > before)
        if hedged:
            assert await asking == {200: 12}
            await until(lambda: all(call.cancelled.is_set() for call in slow.calls[before:]))
            assert await metric(gateway, 'y26hkx_worker_hedges_total{outcome="first"') >= 1
        else:
            may_end.set()
            assert await asking == {200: 12}
            assert await metric(gateway, "y26hkx_worker_hedges_total") == 0
