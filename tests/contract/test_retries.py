"""Workers that refuse or vanish: what is tried once more, and what never is."""

import asyncio
import json
from collections.abc import AsyncIterator

from common import errors
from protos.y26hkx.v1 import chat_pb2
from tests.contract.failures import BODY, CHAT, EMBED, raising
from tests.contract.running_gateway import RunningGateway, running_gateway, until
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import delta, started


async def test_a_request_is_tried_once_more_elsewhere_before_it_began() -> None:
    broken, sound = ScriptedWorker(raising(errors.NotReady("draining"))), ScriptedWorker()
    for scripted in (broken, sound):
        await scripted.start()
    try:
        async with running_gateway([broken, sound]) as gateway:
            for number in range(24):
                content = f"conversation {number}"
                body = BODY | {"messages": [{"role": "user", "content": content}]}
                assert (await gateway.http.post(CHAT, json=body)).status_code == 200
        assert broken.calls, "no conversation came to the broken worker first"
    finally:
        for scripted in (broken, sound):
            await scripted.stop()


async def test_a_request_is_not_tried_a_third_time() -> None:
    workers = [ScriptedWorker(raising(errors.Overloaded("full", retry_after_s=2))) for _ in "abc"]
    for scripted in workers:
        await scripted.start()
    try:
        async with running_gateway(workers) as gateway:
            reply = await gateway.http.post(CHAT, json=BODY)
            assert reply.status_code == 429
            assert reply.headers["retry-after"] == "2"
        assert sum(len(scripted.calls) for scripted in workers) == 2
    finally:
        for scripted in workers:
            await scripted.stop()


async def test_other_errors_are_not_tried_again() -> None:
    workers = [ScriptedWorker(raising(errors.BackendFailure("broken"))) for _ in "ab"]
    for scripted in workers:
        await scripted.start()
    try:
        async with running_gateway(workers) as gateway:
            assert (await gateway.http.post(CHAT, json=BODY)).status_code == 500
        assert sum(len(scripted.calls) for scripted in workers) == 1
    finally:
        for scripted in workers:
            await scripted.stop()


async def test_a_vanished_worker_is_a_503_and_a_returned_one_serves(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    await worker.stop()
    for path, body in ((CHAT, BODY), (EMBED, {"input": "x"})):
        reply = await gateway.http.post(path, json=body)
        assert reply.status_code == 503, reply.text
        assert int(reply.headers["retry-after"]) >= 1
    await until(lambda: not gateway.services.pool.chat.serving)
    assert (await gateway.http.get("/health/ready")).status_code == 503
    assert (await gateway.http.get("/health/live")).status_code == 200
    await worker.start(worker.port)
    await until(lambda: bool(gateway.services.pool.chat.serving))
    assert (await gateway.http.post(CHAT, json=BODY)).status_code == 200


async def test_requests_wait_for_a_worker_that_is_restarted() -> None:
    async with (
        ScriptedWorker() as worker,
        running_gateway([worker], worker_wait_s=60) as gateway,
    ):
        await worker.stop()
        requests = [(CHAT, BODY), (EMBED, {"input": "x"}), (CHAT, BODY | {"stream": True})]
        asking = [
            asyncio.create_task(gateway.http.post(path, json=body)) for path, body in requests * 4
        ]
        pool = gateway.services.pool
        await until(lambda: pool.chat.n_waiting == 8 and pool.embed.n_waiting == 4)
        # By this a cluster starts a worker where it runs none.
        page = (await gateway.http.get("/metrics")).text
        assert 'y26hkx_worker_demand{kind="embed"} 4.0' in page
        await worker.start(worker.port)
        assert [reply.status_code for reply in await asyncio.gather(*asking)] == [200] * 12
        assert (pool.chat.n_waiting, pool.embed.n_waiting) == (0, 0)


async def test_a_request_that_waited_for_a_worker_in_vain_is_told_so() -> None:
    async with (
        ScriptedWorker() as worker,
        running_gateway([worker], worker_wait_s=0.2) as gateway,
    ):
        await worker.stop()
        reply = await gateway.http.post(CHAT, json=BODY)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "not_ready")
        assert int(reply.headers["retry-after"]) >= 1


async def test_a_client_that_leaves_while_it_waits_for_a_worker_waits_no_longer() -> None:
    async with (
        ScriptedWorker() as worker,
        running_gateway([worker], worker_wait_s=60) as gateway,
    ):
        await worker.stop()
        async with gateway.raw() as (_, writer):
            body = json.dumps(BODY).encode()
            head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
            await until(lambda: gateway.services.pool.chat.n_waiting == 1)
        await until(lambda: gateway.services.pool.chat.n_waiting == 0)


async def test_a_worker_killed_in_mid_stream_is_an_error_event(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def hangs(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        yield delta("x")
        await asyncio.Event().wait()

    worker.generate = hangs
    async with gateway.http.stream("POST", CHAT, json=BODY | {"stream": True}) as reply:
        lines = reply.aiter_lines()
        await anext(lines)
        await worker.stop()
        rest = [line async for line in lines if line]
    assert json.loads(rest[-1][6:])["error"]["code"] == "worker_lost"
