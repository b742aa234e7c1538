"""Bodies in flight have one budget: what is beyond is refused, what ends gives its bytes back."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from protos.y26hkx.v1 import embed_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway, until
from tests.contract.scripted_worker import ScriptedWorker

LIMIT = 256 * 1024
SETTINGS = {
    "max_body_bytes": LIMIT // 2,
    "max_embedding_body_bytes": LIMIT,
    "max_body_bytes_in_flight": LIMIT,
}
# Two of them are too many.
BODY = json.dumps({"input": "x" * (LIMIT * 2 // 3)}).encode()
HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY)
N_LEAVING = 60


@pytest.fixture
async def bounded(worker: ScriptedWorker) -> AsyncIterator[RunningGateway]:
    async with running_gateway([worker], **SETTINGS) as gateway:
        yield gateway


class Gate:
    """Holds the answers of a worker back until it is opened."""

    def __init__(self, worker: ScriptedWorker) -> None:
        self.opened = asyncio.Event()
        worker.embed = self._embed

    async def _embed(self, request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
        await self.opened.wait()
        return embed_pb2.EmbedResponse(vectors=bytes(4), dimension=1)


def in_flight(gateway: RunningGateway) -> int:
    return gateway.services.body_budget.in_flight_bytes


async def test_a_body_beyond_the_budget_is_told_to_come_again_and_then_passes(
    bounded: RunningGateway, worker: ScriptedWorker
) -> None:
    gate = Gate(worker)
    first = asyncio.create_task(bounded.http.post("/v1/embeddings", content=BODY))
    await worker.next_call()
    assert in_flight(bounded) == len(BODY)
    refused = await bounded.http.post("/v1/embeddings", content=BODY)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert "MAX_BODY_BYTES_IN_FLIGHT" in refused.json()["error"]["message"]
    # Small ones find room, and the page tells.
    page = (await bounded.http.get("/metrics")).text
    assert f"y26hkx_body_bytes_in_flight {float(len(BODY))}" in page
    gate.opened.set()
    assert (await first).status_code == 200
    assert (await bounded.http.post("/v1/embeddings", content=BODY)).status_code == 200
    await until(lambda: in_flight(bounded) == 0)


async def test_a_body_of_unknown_length_is_refused_where_it_passes_the_budget(
    bounded: RunningGateway, worker: ScriptedWorker
) -> None:
    gate = Gate(worker)
    first = asyncio.create_task(bounded.http.post("/v1/embeddings", content=BODY))
    await worker.next_call()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(BODY), 4096):
            yield BODY[start : start + 4096]

    refused = await bounded.http.post("/v1/embeddings", content=pieces())
    assert refused.status_code == 429
    await until(lambda: in_flight(bounded) == len(BODY))
    gate.opened.set()
    assert (await first).status_code == 200


async def test_a_body_that_is_only_announced_takes_no_room(
    bounded: RunningGateway, worker: ScriptedWorker
) -> None:
    Gate(worker).opened.set()
    async with bounded.raw() as (_, announcing):
        announcing.write(HEAD)
        await announcing.drain()
        assert (await bounded.http.post("/v1/embeddings", content=BODY)).status_code == 200


async def test_clients_that_leave_at_any_time_give_their_bytes_back(
    bounded: RunningGateway, worker: ScriptedWorker
) -> None:
    """While they send, while the worker computes, and while they are refused."""
    Gate(worker)

    async def leaves(number: int) -> None:
        async with bounded.raw() as (_, writer):
            writer.write(HEAD + BODY[: len(BODY) * (number % 6 + 1) // 6])
            await writer.drain()
            if number % 6 == 5:
                await asyncio.sleep(0)

    for _ in range(3):
        await asyncio.gather(*(leaves(number) for number in range(N_LEAVING)))
    await until(lambda: not bounded.server.server_state.tasks)
    await until(lambda: in_flight(bounded) == 0)
    Gate(worker).opened.set()
    assert (await bounded.http.post("/v1/embeddings", content=BODY)).status_code == 200


async def test_a_request_that_fails_gives_its_bytes_back(bounded: RunningGateway) -> None:
    for content in (b"{", b'{"input": 7}', BODY[:-1]):
        reply = await bounded.http.post("/v1/embeddings", content=content)
        assert reply.status_code == 400
        assert in_flight(bounded) == 0
