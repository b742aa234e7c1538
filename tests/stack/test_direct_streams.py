"""Small embedding calls that follow each other reach the model's process without the worker."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.running_stack import MINILM, RunningStack, free_port

ENCODER = "embed_worker.encoder_process"
N_CALLS = 40
METRICS_PORT = free_port()

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    log: Path = tmp_path_factory.mktemp("direct") / "stack.log"
    settings = {"ENABLE_MODEL_CACHE": "0", "EMBED_WORKER_METRICS_PORT": str(METRICS_PORT)}
    with RunningStack(log, **settings) as running:
        yield running


async def embed(http: httpx.AsyncClient, text: str, **more: object) -> httpx.Response:
    body = {"model": MINILM, "input": text, **more}
    reply = await http.post("/v1/embeddings", json=body)
    reply.raise_for_status()
    return reply


def is_direct(stack: RunningStack) -> bool:
    """Whether the gateway and the model's process share a connection."""
    (encoder,) = stack.find(ENCODER)
    theirs = {c.laddr.port for c in encoder.net_connections("tcp") if c.status == "ESTABLISHED"}
    gateway = stack.one("gateway")
    return any(c.raddr and c.raddr.port in theirs for c in gateway.net_connections("tcp"))


async def while_calls_go_on(
    stack: RunningStack, act: Callable[[], Awaitable[object]]
) -> list[httpx.Response]:
    """The replies to calls of four clients before, while and after `act` happens."""
    async with httpx.AsyncClient(base_url=stack.base_url, timeout=60) as http:
        await embed(http, "load the model")

        async def client(name: int) -> list[httpx.Response]:
            return [await embed(http, f"text {name} {n}") for n in range(N_CALLS)]

        clients = asyncio.gather(*map(client, range(4)))
        await asyncio.sleep(0.3)
        await act()
        return [reply for replies in await clients for reply in replies]


def served(stack: RunningStack) -> int:
    """The requests that the worker counts for the model."""
    page = httpx.get(f"http://127.0.0.1:{METRICS_PORT}/metrics").text
    pattern = rf'^y26hkx_model_requests_total{{.*"{MINILM}".*}} ([0-9.]+)'
    return int(sum(map(float, re.findall(pattern, page, re.MULTILINE))))


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            await asyncio.sleep(0.1)
            if is_so():
                return


async def test_answers_are_the_same_on_both_ways(stack: RunningStack) -> None:
    async with httpx.AsyncClient(base_url=stack.base_url, timeout=60) as http:
        first = (await embed(http, "the same text")).json()
        for n in range(N_CALLS):
            await embed(http, f"others {n}")
        assert is_direct(stack)
        reply = await embed(http, "the same text")
    second = reply.json()
    assert second.keys() == first.keys()
    assert second["usage"] == first["usage"]
    assert second["data"][0]["embedding"] == pytest.approx(first["data"][0]["embedding"], abs=1e-5)
    assert reply.headers["x-model-fingerprint"] == second["system_fingerprint"]


async def test_the_worker_counts_every_call(stack: RunningStack) -> None:
    await until(lambda: not is_direct(stack))
    # What an earlier stream served is told right after its end.
    await asyncio.sleep(0.5)
    before = served(stack)
    assert before
    async with httpx.AsyncClient(base_url=stack.base_url, timeout=60) as http:
        for n in range(N_CALLS):
            await embed(http, f"counted {n}")
        assert is_direct(stack)
        await until(lambda: served(stack) == before + N_CALLS)


async def test_an_error_says_the_same_on_both_ways(stack: RunningStack) -> None:
    async with httpx.AsyncClient(base_url=stack.base_url, timeout=60) as http:
        wrong = {"model": MINILM, "input": "x", "dimensions": 100_000}
        first = await http.post("/v1/embeddings", json=wrong)
        for n in range(N_CALLS):
            await embed(http, f"others {n}")
        second = await http.post("/v1/embeddings", json=wrong)
    assert (first.status_code, second.status_code) == (400, 400)
    errors = [reply.json()["error"] for reply in (first, second)]
    for error in errors:
        del error["request_id"]
    assert errors[0] == errors[1]


async def test_an_unload_while_calls_go_on_fails_none_of_them(stack: RunningStack) -> None:
    async def unload() -> None:
        async with httpx.AsyncClient(base_url=stack.base_url, timeout=60) as http:
            reply = await http.post("/v1/models/unload", json={"model": MINILM})
            assert reply.status_code == httpx.codes.OK

    assert len(await while_calls_go_on(stack, unload)) == 4 * N_CALLS


async def test_a_process_that_dies_while_calls_go_on_fails_none_of_them(
    stack: RunningStack,
) -> None:
    async def kill() -> None:
        psutil.Process(stack.one(ENCODER).pid).kill()

    assert len(await while_calls_go_on(stack, kill)) == 4 * N_CALLS


async def test_a_request_that_ends_the_models_stay_is_heeded_at_once(stack: RunningStack) -> None:
    async with httpx.AsyncClient(base_url=stack.base_url, timeout=60) as http:
        for n in range(N_CALLS):
            await embed(http, f"others {n}")
        await embed(http, "the last one", keep_alive=0)
        await until(lambda: not stack.find(ENCODER))
