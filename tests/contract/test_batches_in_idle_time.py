"""When a batch runs: while nobody else asks, until it is cancelled, and on after a restart."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from gateway import idle_time
from protos.y26hkx.v1 import chat_pb2
from tests.contract.batches import CHAT, MESSAGES, answers, begin, chats, client_of, over, run
from tests.contract.running_gateway import running_gateway, until
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import count_up, finished, started

pytestmark = pytest.mark.usefixtures("short_quiet")


async def test_it_runs_only_while_nobody_else_asks(worker: ScriptedWorker, tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def waits(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        if request.max_tokens == 99:
            await go_on.wait()
        yield finished(1)

    worker.generate = waits
    async with (
        running_gateway([worker], batches_path=tmp_path / "b") as gateway,
        client_of(gateway) as client,
    ):
        body = {"messages": MESSAGES, "max_tokens": 99}
        person = asyncio.create_task(gateway.http.post(CHAT, json=body))
        await worker.next_call()
        batch = await begin(client, chats(5))
        # Whole requests of others come and go, and none of the batch is made.
        for _ in range(20):
            batch = await client.batches.retrieve(batch.id)
            assert batch.request_counts.completed == 0
        assert len(worker.calls) == 1
        go_on.set()
        assert (await person).status_code == 200
        assert (await over(client, batch.id)).request_counts.completed == 5


async def test_while_people_have_asked_lately_it_makes_one_request_at_a_time(
    worker: ScriptedWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_time, "LATELY_S", 60.0)
    n_running, at_once = 0, []

    async def slow(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        nonlocal n_running
        n_running += 1
        at_once.append(n_running)
        yield started()
        await asyncio.sleep(0.01)
        n_running -= 1
        yield finished(1)

    worker.generate = slow
    async with (
        running_gateway([worker], batches_path=tmp_path / "b") as gateway,
        client_of(gateway) as client,
    ):
        await gateway.http.post(CHAT, json={"messages": MESSAGES})
        at_once.clear()
        assert (await run(client, chats(6))).request_counts.completed == 6
        assert at_once == [1] * 6
        monkeypatch.setattr(idle_time, "LATELY_S", 0.0)
        await run(client, chats(12))
        assert max(at_once) > 1


async def test_a_cancelled_batch_keeps_what_was_answered(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    places = asyncio.Semaphore(3)

    async def some(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        await places.acquire()
        yield started()
        yield finished(1)

    worker.generate = some
    async with (
        running_gateway([worker], batches_path=tmp_path / "b") as gateway,
        client_of(gateway) as client,
    ):
        batch = await begin(client, chats(30))
        store = gateway.services.batches.store
        await until(lambda: store.batches[batch.id].counts.completed == 3)
        assert (await client.batches.cancel(batch.id)).status == "cancelling"
        for _ in range(30):
            places.release()
        batch = await over(client, batch.id)
        assert batch.status == "cancelled"
        # Those that were asked already are answered.
        assert 3 <= len(await answers(client, batch.output_file_id)) <= 7
        with pytest.raises(openai.BadRequestError):
            await client.batches.cancel(batch.id)


async def test_a_batch_goes_on_after_a_restart_and_asks_nothing_twice(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    places = asyncio.Semaphore(10)

    async def some(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        await places.acquire()
        async for event in count_up(request):
            yield event

    worker.generate = some
    folder = tmp_path / "b"
    async with (
        running_gateway([worker], batches_path=folder) as gateway,
        client_of(gateway) as client,
    ):
        batch = await begin(client, chats(40))
        store = gateway.services.batches.store
        await until(lambda: store.batches[batch.id].counts.completed == 10)
        output = store.content(store.batches[batch.id].output_file_id)
    # As a gateway leaves it that is killed while it writes.
    with output.open("ab") as file:
        file.write(b'{"custom_id":"r39","resp')
    worker.generate = count_up
    worker.calls.clear()
    async with (
        running_gateway([worker], batches_path=folder) as gateway,
        client_of(gateway) as client,
    ):
        batch = await over(client, batch.id)
        assert (batch.status, batch.request_counts.completed) == ("completed", 40)
        assert len(await answers(client, batch.output_file_id)) == 40
    assert len(worker.calls) == 30
