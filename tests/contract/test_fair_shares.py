"""Keys that wait for one worker: a crowd of one key does not keep another waiting."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from gateway.keys.administration import add_key
from gateway.keys.record import Rights
from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway, until
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import delta, finished, started

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}


class Gate:
    """A worker that answers one request whenever it may."""

    def __init__(self) -> None:
        self.may = asyncio.Semaphore(0)
        self.n_begun = 0

    async def generate(
        self, request: chat_pb2.GenerateRequest
    ) -> AsyncIterator[chat_pb2.GenerateEvent]:
        self.n_begun += 1
        yield started()
        yield delta("x")
        await self.may.acquire()
        yield finished(8)


async def post(gateway: RunningGateway, key: str, **more: Any) -> int:
    headers = {"x-api-key": key}
    return (await gateway.http.post(CHAT, json=BODY | more, headers=headers)).status_code


async def test_a_single_request_overtakes_the_crowd_of_another_key(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    gate, path = Gate(), tmp_path / "keys"
    worker.generate = gate.generate
    crowd, one = (add_key(path, Rights()).text for _ in range(2))
    settings = {"api_keys_file": path, "max_in_flight_per_key": 0, "worker_slots": 2}
    async with running_gateway([worker], **settings) as gateway:
        turns = gateway.services.turns
        many = [asyncio.create_task(post(gateway, crowd)) for _ in range(40)]
        # A worker has its slots full, and one in hand.
        await until(lambda: gate.n_begun == 3 and turns.n_waiting == 37)
        # What scales workers counts those that wait, too.
        page = gateway.services.metrics.page().decode()
        assert 'y26hkx_worker_demand{kind="chat"} 40.0' in page
        single = asyncio.create_task(post(gateway, one))
        await until(lambda: turns.n_waiting == 38)
        n_more = 0
        while not single.done():
            gate.may.release()
            n_more += 1
            begun = gate.n_begun
            await until(lambda: gate.n_begun > begun or single.done())  # noqa: B023
        assert await single == 200
        assert n_more <= 6
        for _ in range(60):
            gate.may.release()
        assert set(await asyncio.gather(*many)) == {200}


async def test_a_waiting_stream_says_its_place_and_leaves_it_with_its_client(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    gate, path = Gate(), tmp_path / "keys"
    worker.generate = gate.generate
    key = add_key(path, Rights()).text
    settings = {"api_keys_file": path, "worker_slots": 1, "sse_progress_after_s": 0.0}
    async with running_gateway([worker], **settings) as gateway:
        first = [asyncio.create_task(post(gateway, key)) for _ in range(2)]
        await until(lambda: gate.n_begun == 2)
        headers, body = {"x-api-key": key}, BODY | {"stream": True}
        async with gateway.http.stream("POST", CHAT, json=body, headers=headers) as stream:
            async for line in stream.aiter_lines():
                if line.startswith(": queued, position 1"):
                    break
        await until(lambda: gateway.services.turns.n_waiting == 0)
        for _ in range(2):
            gate.may.release()
        assert await asyncio.gather(*first) == [200, 200]
        assert gate.n_begun == 2


async def test_the_time_that_a_client_waits_is_the_workers_deadline(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    gate = Gate()
    worker.generate = gate.generate
    async with running_gateway([worker]) as gateway:
        for name in ("x-request-timeout", "x-stainless-read-timeout"):
            reply = await gateway.http.post(CHAT, json=BODY, headers={name: "0.3"})
            assert reply.status_code == 504
            assert reply.json()["error"]["code"] == "timeout"
        # Nonsense asks for nothing.
        gate.may.release()
        for value in ("soon", "-1", "inf", "nan"):
            gate.may.release()
            reply = await gateway.http.post(CHAT, json=BODY, headers={"x-request-timeout": value})
            assert reply.status_code == 200
