"""Seeded rounds of killed and stopped processes and of clients that leave, under load."""

import asyncio
import contextlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.contract.running_gateway import ticks
from tests.running_stack import RunningStack

N_ROUNDS = 30
N_CLIENTS = 6
# Slow machines get through fewer requests in the same rounds.
LEAST_SENT = 60
ENGINES = ("chat_worker.engine_process", "embed_worker.encoder_process")
WORKERS = ("chat_worker", "embed_worker")
# What a client may be told; a refused or broken connection would be a fault of the gateway's.
HONEST = {200, 429, 503, 504}


class Clients:
    """Ask for ever, plain and streamed, and note each request's one outcome."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self.over = asyncio.Event()
        self.n_sent = 0
        self.outcomes: Counter[int] = Counter()

    async def run(self, chance: random.Random) -> None:
        async with httpx.AsyncClient(base_url=self._base_url, timeout=60) as http:
            while not self.over.is_set():
                self.n_sent += 1
                ask = chance.choice((self._embed, self._chat, self._stream))
                self.outcomes[await ask(http, chance)] += 1
                await asyncio.sleep(0.01)

    async def _embed(self, http: httpx.AsyncClient, chance: random.Random) -> int:
        body = {"input": ["a"] * chance.randint(1, 8)}
        return (await http.post("/v1/embeddings", json=body)).status_code

    async def _chat(self, http: httpx.AsyncClient, chance: random.Random) -> int:
        return (await http.post("/v1/chat/completions", json=_body(chance))).status_code

    async def _stream(self, http: httpx.AsyncClient, chance: random.Random) -> int:
        leaves_after = chance.choice((4, None, None))
        body = _body(chance) | {"stream": True}
        async with http.stream("POST", "/v1/chat/completions", json=body) as reply:
            lines = [line async for line in _some(reply, leaves_after) if line]
        if reply.status_code == httpx.codes.OK and leaves_after is None:
            n_ends = sum(line == "data: [DONE]" or '"error"' in line[:16] for line in lines)
            assert n_ends == 1, lines[-3:]
        return reply.status_code


def _body(chance: random.Random) -> dict[str, Any]:
    message = {"role": "user", "content": f"Go on {chance.random()}"}
    return {"messages": [message], "ignore_eos": True, "max_tokens": chance.randint(1, 150)}


async def _some(reply: httpx.Response, n: int | None) -> Any:
    n_lines = 0
    async for line in reply.aiter_lines():
        yield line
        n_lines += 1
        if n_lines == n:
            return


def hurt(stack: RunningStack, chance: random.Random) -> psutil.Process | None:
    """Kill or stop one process; the one that was stopped."""
    module = chance.choice(WORKERS if chance.random() < 0.15 else ENGINES)
    for process in stack.find(module):
        with contextlib.suppress(psutil.NoSuchProcess):
            if chance.random() < 0.7:
                process.kill()
                return None
            process.suspend()
            return process
    return None


async def hurt_often(stack: RunningStack, chance: random.Random, clients: Clients) -> None:
    """Begin when the models answer, and go on until enough requests were sent."""
    async for _ in ticks():
        if clients.outcomes[httpx.codes.OK] >= N_CLIENTS:
            break
    n_rounds = 0
    while n_rounds < N_ROUNDS or clients.n_sent < LEAST_SENT:
        n_rounds += 1
        stopped = hurt(stack, chance)
        await asyncio.sleep(chance.uniform(0.05, 0.5))
        if stopped is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                stopped.resume()


def held(stack: RunningStack) -> list[int]:
    """Leases, waiters, queues and open calls, wherever they are counted."""
    detailed = stack.http.get("/health/detailed").json()
    models = detailed["models"]["all"].values()
    workers = [worker for kind in detailed["workers"].values() for worker in kind]
    counts = [model.get(name, 0) for model in models for name in ("n_leases", "n_waiting")]
    names = ("queue_depth", "n_active", "n_outstanding")
    return counts + [worker[name] for worker in workers for name in names]


@pytest.mark.timeout(170)
async def test_nothing_is_left_held_and_every_request_has_one_honest_outcome(
    tmp_path: Path,
) -> None:
    chance = random.Random(20261126)
    with RunningStack(tmp_path / "log") as stack:
        gateway = stack.one("gateway")
        n_files = gateway.num_fds() if hasattr(gateway, "num_fds") else 0
        clients = Clients(stack.base_url)
        async with asyncio.TaskGroup() as running:
            for number in range(N_CLIENTS):
                running.create_task(clients.run(random.Random(number)))
            await hurt_often(stack, chance, clients)
            clients.over.set()
        assert sum(clients.outcomes.values()) == clients.n_sent
        assert set(clients.outcomes) <= HONEST, clients.outcomes
        async with asyncio.timeout(60):
            async for _ in ticks():
                if not any(held(stack)):
                    break
        assert stack.one("gateway") == gateway
        if n_files:
            assert gateway.num_fds() <= n_files + 8
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
        async with asyncio.timeout(90):
            # The breaker may be open for a minute after so many crashes.
            async for _ in ticks():
                if stack.http.post("/v1/chat/completions", json=body).status_code == 200:
                    break
        assert "Traceback" not in stack.log.read_text(errors="replace")
