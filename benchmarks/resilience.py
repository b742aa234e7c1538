"""Workers that fail, slow down, freeze or vanish under load: what clients notice of it.

    python3 run.py bench resilience [--workers 4] [--clients 16] [--seconds 4]

All workers are scripted and answer an embedding call after 2 ms, but for one of them. Clients ask
as fast as they are answered. Gateway, workers and clients share this process, so the figures
compare one row with another, and are no speed of the gateway.
"""

import argparse
import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from benchmarks.http_load import Connection
from benchmarks.report import quantile, say, table
from common.errors import BackendFailure, WorkerLost
from protos.y26hkx.v1 import embed_pb2, worker_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import row_numbers

BODY = b'{"input": "hello world"}'
USUAL_S, SLOW_S = 0.002, 0.05
FREEZE_S, FROZEN_SHARE = 0.5, 0.02
OK = 200
Answer = Callable[[embed_pb2.EmbedRequest], Awaitable[embed_pb2.EmbedResponse]]


async def usual(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
    await asyncio.sleep(USUAL_S)
    return await row_numbers(request)


async def slow(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
    await asyncio.sleep(SLOW_S)
    return await row_numbers(request)


async def loses(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
    raise WorkerLost("gone", retry_after_s=1)


async def fails_often(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
    if random.random() < 0.7:
        raise BackendFailure("broken")
    return await usual(request)


async def freezes(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
    if random.random() < FROZEN_SHARE:
        await asyncio.sleep(FREEZE_S)
    return await usual(request)


@dataclass
class Scenario:
    """Args:
    answer: what the first worker answers.
    vanishes: the first worker stops in the middle, and comes back.
    settings: of the gateway.
    """

    name: str
    answer: Answer = usual
    vanishes: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


SCENARIOS = (
    Scenario("all are well"),
    Scenario("one loses its calls", loses),
    Scenario("one fails 7 of 10", fails_often),
    Scenario("one takes 25 × as long", slow),
    Scenario("the same, SLOW_WORKER_FACTOR=0", slow, settings={"slow_worker_factor": 0}),
    Scenario("one vanishes and returns", vanishes=True),
    Scenario("one freezes now and then", freezes),
    Scenario("the same, HEDGE_EMBEDDINGS=1", freezes, settings={"hedge_embeddings": True}),
)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench resilience", description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4)
    chosen = parser.parse_args(argv)
    rows = [asyncio.run(measured(scenario, chosen)) for scenario in SCENARIOS]
    table(
        [
            "one of the workers",
            "calls",
            "failed",
            "p50 ms",
            "p99 ms",
            "its share",
            "again",
            "twice",
        ],
        rows,
    )
    say("its share: of all calls, of the worker that is not well; again: retries; twice: hedges")
    return 0


async def measured(scenario: Scenario, chosen: argparse.Namespace) -> list[str]:
    async with fleet(scenario, chosen.workers) as (workers, gateway):
        took, n_failed = [], 0
        end_s = time.perf_counter() + chosen.seconds

        async def ask() -> None:
            nonlocal n_failed
            async with Connection("127.0.0.1", gateway.port) as connection:
                while (began_s := time.perf_counter()) < end_s:
                    status, _ = await connection.post("/v1/embeddings", BODY)
                    n_failed += status != OK
                    took.append(time.perf_counter() - began_s)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(chosen.clients):
                tasks.create_task(ask())
            if scenario.vanishes:
                await asyncio.sleep(chosen.seconds / 3)
                await workers[0].stop()
                await asyncio.sleep(chosen.seconds / 3)
                await workers[0].start(workers[0].port)
        pool = gateway.services.pool.embed
        calls = [len(worker.calls) for worker in workers]
        return [
            scenario.name,
            f"{len(took)}",
            f"{n_failed}",
            f"{quantile(took, 0.5) * 1000:.1f}",
            f"{quantile(took, 0.99) * 1000:.1f}",
            f"{calls[0] / sum(calls):.1%}",
            f"{pool.retries.n_taken - pool.hedging.n_sent}",
            f"{pool.hedging.n_sent}",
        ]


@contextlib.asynccontextmanager
async def fleet(
    scenario: Scenario, n_workers: int
) -> AsyncIterator[tuple[list[ScriptedWorker], RunningGateway]]:
    async with AsyncExitStack() as stack:
        answers = [scenario.answer, *([usual] * (n_workers - 1))]
        workers = [
            await stack.enter_async_context(ScriptedWorker(embed=answer)) for answer in answers
        ]
        for worker in workers:
            worker.embed_state = worker_pb2.MODEL_STATE_READY
        settings = {"access_log": False} | scenario.settings
        gateway = await stack.enter_async_context(running_gateway(workers, **settings))
        yield workers, gateway
