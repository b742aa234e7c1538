"""The access log: one line per request that tells how it went and nothing of what was said."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator

import pytest

from common import errors
from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway, until
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import delta, started

KEY = "sk-canary-7f3a"
CHAT = "/v1/chat/completions"
SECRET = "what I never told anybody"
BODY = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 1}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "gateway.access_log")
    return caplog


def lines(log: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in log.records if r.name == "gateway.access_log"]


async def one_line(log: pytest.LogCaptureFixture) -> str:
    """It is written when the request is over for the server, which its client learns first."""
    await until(lambda: bool(lines(log)))
    (line,) = lines(log)
    return line


async def test_a_request_is_a_line_with_id_client_route_status_and_time(
    worker: ScriptedWorker, log: pytest.LogCaptureFixture
) -> None:
    async with running_gateway([worker], api_keys=KEY) as gateway:
        headers = {"authorization": f"Bearer {KEY}", "x-request-id": "trace-1"}
        await gateway.http.post(CHAT, json=BODY, headers=headers)
    line = await one_line(log)
    assert re.fullmatch(
        r"id=trace-1 client=key:[0-9a-f]{16} method=POST route=/v1/chat/completions status=200 "
        r"ms=\d+\.\d",
        line,
    )
    assert KEY not in line
    assert SECRET not in line


async def test_a_path_is_written_as_its_route_or_not_at_all(
    gateway: RunningGateway, log: pytest.LogCaptureFixture
) -> None:
    for path in ("/v1/models/some-model", "/nope/with/secrets", "/v1/models?key=secret"):
        await gateway.http.get(path)
    routes = [re.search(r"route=(\S+) status=(\d+)", line) for line in lines(log)]
    assert [found.groups() for found in routes if found] == [
        ("/v1/models/{model_id:path}", "404"),
        ("-", "404"),
        ("/v1/models", "200"),
    ]


async def test_refusals_say_why_and_name_the_route_that_they_never_reached(
    worker: ScriptedWorker, log: pytest.LogCaptureFixture
) -> None:
    async with running_gateway([worker], api_keys=KEY) as gateway:
        await gateway.http.post(CHAT, json=BODY)
    line = await one_line(log)
    assert "client=address:127.0.0.1" in line
    assert "route=/v1/chat/completions status=401" in line
    assert line.endswith("error=invalid_api_key")


async def test_a_stream_that_broke_tells_its_error(
    gateway: RunningGateway, worker: ScriptedWorker, log: pytest.LogCaptureFixture
) -> None:
    async def breaks(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        yield delta("x")
        raise errors.WorkerLost("the engine died")

    worker.generate = breaks
    await gateway.http.post(CHAT, json=BODY | {"stream": True})
    line = await one_line(log)
    assert "status=200" in line
    assert line.endswith("error=worker_lost")


@pytest.mark.parametrize(("stream", "status"), [(True, 200), (False, 499)])
async def test_a_client_that_left_is_told_from_one_that_was_served(
    gateway: RunningGateway,
    worker: ScriptedWorker,
    log: pytest.LogCaptureFixture,
    stream: bool,
    status: int,
) -> None:
    async def talks(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        yield delta("x")
        await asyncio.Event().wait()

    worker.generate = talks
    if stream:
        async with gateway.http.stream("POST", CHAT, json=BODY | {"stream": True}) as reply:
            await anext(reply.aiter_lines())
    else:
        asking = asyncio.create_task(gateway.http.post(CHAT, json=BODY))
        await worker.next_call()
        asking.cancel()
    line = await one_line(log)
    assert f"status={status}" in line
    assert line.endswith("cut") or "error=cancelled" in line


async def test_what_is_no_http_is_a_line_too(
    gateway: RunningGateway, log: pytest.LogCaptureFixture
) -> None:
    async with gateway.raw() as (reader, writer):
        writer.write(b"nonsense\r\n\r\n")
        await reader.read()
    line = await one_line(log)
    assert "client=address:127.0.0.1 method=- route=- status=400 error=invalid_request" in line


async def test_looks_at_health_are_for_debugging_and_all_of_it_can_be_off(
    worker: ScriptedWorker, gateway: RunningGateway, log: pytest.LogCaptureFixture
) -> None:
    await gateway.http.get("/health/live")
    await gateway.http.get("/metrics")
    async with running_gateway([worker], access_log=False) as silent:
        await silent.http.post(CHAT, json=BODY)
    assert lines(log) == []
