"""A thousand workers on paper: what gateways pay, and how often conversations find their cache.

    python3 run.py bench fleet [--workers 1000] [--gateways 10] [--requests-per-s 50000]

The costs of one pick, one status and one health check are measured with the gateway's own
functions over as many endpoints; the rest is multiplication. The hit rates come from a simulation
of conversations over workers with a bounded number of caches.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from benchmarks.report import say, table
from gateway.pool.balance import least_outstanding, sticky
from gateway.pool.endpoint import CHECK_INTERVAL_S, STATUS_INTERVAL_S, Endpoint
from protos.y26hkx.v1 import worker_pb2

N_MODELS = 4
N_REPEATS = 30
FLEETS = (1, 10, 100, 1000)
# Of the simulation: requests, turns of a conversation, conversations that a worker caches, and how
# many requests run at a time on each worker on average.
N_REQUESTS = 8000
N_TURNS = 6
N_CACHES = 8
N_RUNNING = 2


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench fleet", description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--gateways", type=int, default=10)
    parser.add_argument("--requests-per-s", type=int, default=50_000)
    chosen = parser.parse_args(argv)
    sizes = sorted({*(n for n in FLEETS if n < chosen.workers), chosen.workers})
    per_gateway = chosen.requests_per_s / chosen.gateways
    check_s = asyncio.run(health_check_seconds())
    say(f"one health check: {check_s * 1e6:.0f} µs of a gateway and a worker together")
    table(
        [
            "workers",
            "chat pick µs",
            "embed pick µs",
            "status µs",
            "cores for picks",
            "for watching",
        ],
        [row(n, per_gateway, check_s) for n in sizes],
    )
    say(f"cores: of each of {chosen.gateways} gateways at {per_gateway:.0f} requests/s, half chat")
    table(
        ["workers", "policy", "turns that find their cache", "busiest / mean"],
        [simulated(n, name, policy) for n in sizes[-2:] for name, policy in POLICIES.items()],
    )
    return 0


def row(n_workers: int, requests_per_s: float, check_s: float) -> list[str]:
    endpoints = fleet(n_workers)
    chat_s = seconds(lambda: sticky(_listing(endpoints), random.getrandbits(64)))
    embed_s = seconds(lambda: least_outstanding(_listing(endpoints)))
    status = endpoints[0].status.SerializeToString()
    status_s = seconds(lambda: endpoints[0].hear(worker_pb2.WorkerStatus.FromString(status)))
    watching = n_workers * (status_s / STATUS_INTERVAL_S + check_s / CHECK_INTERVAL_S)
    figures = (chat_s * 1e6, embed_s * 1e6, status_s * 1e6)
    picks = requests_per_s * (chat_s + embed_s) / 2
    measured = [f"{figure:.1f}" for figure in figures]
    return [f"{n_workers}", *measured, f"{picks:.2f}", f"{watching:.3f}"]


def fleet(n_workers: int) -> list[Endpoint]:
    """Endpoints with a status as real workers send it."""
    endpoints = [Endpoint(f"10.0.{n >> 8}.{n & 255}:50051") for n in range(n_workers)]
    for endpoint in endpoints:
        endpoint.serving = True
        models = [worker_pb2.Model(id=f"model-{n}", is_default=n == 0) for n in range(N_MODELS)]
        endpoint.hear(worker_pb2.WorkerStatus(models=models))
    return endpoints


def _listing(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """The part of `Workers.pick` that looks at every endpoint."""
    return [e for e in endpoints if e.serving and e.lists("model-2")]


def seconds(work: Callable[[], object]) -> float:
    """The median time of `work`."""
    took = []
    for _ in range(N_REPEATS):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


async def health_check_seconds() -> float:
    """Of processor time, for a check over loopback: both ends are in this process."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    n_checks = 300
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        await stub.Check(health_pb2.HealthCheckRequest())
        began = time.process_time()
        for _ in range(n_checks):
            await stub.Check(health_pb2.HealthCheckRequest())
        took = time.process_time() - began
    await server.stop(None)
    return took / n_checks


@dataclass
class SimulatedWorker:
    endpoint: Endpoint
    caches: "OrderedDict[int, None]" = field(default_factory=OrderedDict)
    n_served: int = 0

    def serve(self, conversation: int) -> bool:
        """Whether the conversation's cache is here; afterwards it is, and the oldest may not be."""
        found = conversation in self.caches
        self.caches[conversation] = None
        self.caches.move_to_end(conversation)
        if len(self.caches) > N_CACHES:
            self.caches.popitem(last=False)
        self.n_served += 1
        return found


Policy = Callable[[Sequence[Endpoint], int], Endpoint]
POLICIES: dict[str, Policy] = {
    "prefix affinity, bounded load": sticky,
    "fewest outstanding": lambda endpoints, _: least_outstanding(endpoints),
}


def simulated(n_workers: int, name: str, policy: Policy) -> list[str]:
    """Conversations of some turns over a fleet in which each worker has some requests running."""
    chance = random.Random(n_workers)
    workers = {worker.endpoint: worker for worker in map(SimulatedWorker, fleet(n_workers))}
    endpoints = list(workers)
    running: list[Endpoint] = []
    turns: dict[int, int] = {}
    n_later = n_hits = 0
    for _ in range(N_REQUESTS):
        if len(turns) < n_workers * N_CACHES // 4:
            conversation = chance.getrandbits(64)
            turns[conversation] = 0
        else:
            conversation = chance.choice(list(turns)[: 4 * n_workers])
        endpoint = policy(endpoints, conversation)
        found = workers[endpoint].serve(conversation)
        n_later += turns[conversation] > 0
        n_hits += found and turns[conversation] > 0
        turns[conversation] += 1
        if turns[conversation] == N_TURNS:
            del turns[conversation]
        endpoint.n_outstanding += 1
        running.append(endpoint)
        if len(running) > N_RUNNING * n_workers:
            running.pop(chance.randrange(len(running))).n_outstanding -= 1
    served = [worker.n_served for worker in workers.values()]
    share = n_hits / max(n_later, 1)
    return [f"{n_workers}", name, f"{share:.1%}", f"{max(served) / statistics.mean(served):.2f}"]
