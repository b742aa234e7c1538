"""A day of mixed work in little time: what stays in each process, and what had no answer.

    python3 run.py bench soak --minutes 30

Clients of many kinds use the real stack with its built-in models: they read streams, leave in
the middle of one or of their own body, embed, send what is wrong, ask what does not exist, and
unload models while others use them. Memory, descriptors and threads of every process are taken
each `--every` seconds once the first share of the time, the warm-up, is over.
"""

import argparse
import asyncio
import collections
import json
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from benchmarks.idle import proportional_bytes
from benchmarks.report import bar, say, table
from tests.running_stack import GUIDE, MINILM, SERVICES, RunningStack

MIB = 2**20
ANSWER_WITHIN_S = 120
WARM_UP_SHARE = 0.25
# Samples are averaged in quarters: one may fall on a load.
N_QUARTERS = 4
MOST_GROWTH = 1.02
SETTLE_S = 10
SERVER_ERROR = 500
# A worker or a queue that is full, and a request that waited too long for one.
DOCUMENTED = {503, 504}


@dataclass
class Outcomes:
    """How often each kind of request ended how: a status, `left` (by the client) or an error."""

    counts: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)

    def add(self, kind: str, outcome: str) -> None:
        self.counts[kind, outcome] += 1

    def bad(self) -> int:
        """Requests without an answer in time, with a broken one, or with an undocumented 5xx."""
        return sum(n for (_, outcome), n in self.counts.items() if not self._good(outcome))

    @staticmethod
    def _good(outcome: str) -> bool:
        if outcome == "left":
            return True
        return outcome.isdigit() and (int(outcome) < SERVER_ERROR or int(outcome) in DOCUMENTED)


@dataclass(frozen=True)
class Sample:
    """One process at one time."""

    memory_bytes: int
    descriptors: int
    threads: int


class Client:
    """One of the many, which does something else each time.

    Args:
        http: its own connections.
        port: of the gateway, for what no client library would send.
    """

    def __init__(self, http: httpx.AsyncClient, port: int, seed: int, outcomes: Outcomes) -> None:
        self._http = http
        self._port = port
        self._random = random.Random(seed)
        self._outcomes = outcomes
        self._kinds: dict[str, tuple[int, Callable[[], Awaitable[str]]]] = {
            "stream": (20, self._reads_a_stream),
            "leaves a stream": (25, self._leaves_a_stream),
            "leaves its body": (20, self._leaves_its_body),
            "answer": (8, self._asks),
            "embedding": (60, self._embeds),
            "many embeddings": (6, self._embeds_many),
            "wrong": (20, self._sends_nonsense),
            "unknown model": (8, self._asks_nobody),
            "list": (10, self._lists),
            "unload": (1, self._unloads),
        }

    async def work(self, until_s: float) -> None:
        weights = [weight for weight, _ in self._kinds.values()]
        while time.monotonic() < until_s:
            (kind,) = self._random.choices(list(self._kinds), weights)
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    outcome = await self._kinds[kind][1]()
            except TimeoutError:
                outcome = f"none within {ANSWER_WITHIN_S} s"
            except httpx.TransportError as error:
                outcome = type(error).__name__
            self._outcomes.add(kind, outcome)

    def _chat(self, **more: object) -> dict[str, object]:
        words = " ".join(f"w{self._random.randrange(10**6)}" for _ in range(20))
        return {"messages": [{"role": "user", "content": words}], "max_tokens": 12} | more

    async def _reads_a_stream(self) -> str:
        request = self._http.stream("POST", "/v1/chat/completions", json=self._chat(stream=True))
        async with request as reply:
            await reply.aread()
        whole = reply.status_code != httpx.codes.OK or b"[DONE]" in reply.content
        return str(reply.status_code) if whole else "cut off"

    async def _leaves_a_stream(self) -> str:
        body = self._chat(stream=True, max_tokens=200)
        async with self._http.stream("POST", "/v1/chat/completions", json=body) as reply:
            async for _ in reply.aiter_bytes():
                return "left"
        return str(reply.status_code)

    async def _leaves_its_body(self) -> str:
        body = json.dumps(self._chat()).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:{self._port}\r\n"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            return type(error).__name__
        sent = body[: self._random.randrange(len(body))]
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + sent)
        await asyncio.sleep(self._random.random() / 50)
        writer.transport.abort()
        return "left"

    async def _post(self, path: str, body: object) -> str:
        return str((await self._http.post(path, json=body)).status_code)

    async def _asks(self) -> str:
        return await self._post("/v1/chat/completions", self._chat())

    async def _embeds(self) -> str:
        text = f"text {self._random.randrange(10**9)}"
        return await self._post("/v1/embeddings", {"input": text})

    async def _embeds_many(self) -> str:
        texts = [f"{i} " * self._random.randrange(1, 60) for i in range(40)]
        return await self._post("/v1/embeddings", {"input": texts})

    async def _sends_nonsense(self) -> str:
        body = self._random.choice(
            [{"messages": 7}, {"messages": []}, [], self._chat(temperature="hot"), self._chat(n=-1)]
        )
        return await self._post("/v1/chat/completions", body)

    async def _asks_nobody(self) -> str:
        nobody = f"model-{self._random.randrange(10**9)}"
        return await self._post("/v1/chat/completions", self._chat(model=nobody))

    async def _lists(self) -> str:
        path = self._random.choice(["/v1/models", "/metrics", "/health/detailed"])
        return str((await self._http.get(path)).status_code)

    async def _unloads(self) -> str:
        model = self._random.choice([GUIDE, MINILM])
        return await self._post("/v1/models/unload", {"model": model})


def samples_now(stack: RunningStack) -> dict[str, Sample]:
    """Of the services; what they start comes and goes with the models."""
    found = {}
    for service in SERVICES:
        for process in stack.find(service):
            handles = getattr(process, "num_fds", None) or process.num_handles  # type: ignore[attr-defined, unused-ignore]
            found[service] = Sample(
                proportional_bytes(process), int(handles()), process.num_threads()
            )
    return found


async def soak(stack: RunningStack, n_clients: int, minutes: float, every_s: float) -> bool:
    outcomes = Outcomes()
    began = time.monotonic()
    until = began + 60 * minutes
    taken: list[dict[str, Sample]] = []

    async def one(seed: int) -> None:
        limits = httpx.Limits(max_keepalive_connections=1)
        async with httpx.AsyncClient(
            base_url=stack.base_url, timeout=ANSWER_WITHIN_S, limits=limits
        ) as http:
            await Client(http, stack.port, seed, outcomes).work(until)

    async def watch() -> None:
        await asyncio.sleep(60 * minutes * WARM_UP_SHARE)
        while time.monotonic() < until:
            taken.append(await asyncio.to_thread(samples_now, stack))
            await asyncio.sleep(every_s)

    at_rest = await asyncio.to_thread(samples_now, stack)
    await asyncio.gather(watch(), *(one(seed) for seed in range(n_clients)))
    await asyncio.sleep(SETTLE_S)
    afterwards = await asyncio.to_thread(samples_now, stack)
    report_outcomes(outcomes, time.monotonic() - began)
    return all([report_processes(at_rest, taken, afterwards), no_bad(outcomes)])


def report_outcomes(outcomes: Outcomes, took_s: float) -> None:
    table(
        ["request", "outcome", "times"],
        [[kind, outcome, str(n)] for (kind, outcome), n in sorted(outcomes.counts.items())],
    )
    n = sum(outcomes.counts.values())
    say(f"{n} requests in {took_s:.0f} s")


def no_bad(outcomes: Outcomes) -> bool:
    return bar("requests without a proper answer", outcomes.bad(), 0, at_most=True)


def report_processes(
    at_rest: dict[str, Sample], taken: list[dict[str, Sample]], afterwards: dict[str, Sample]
) -> bool:
    """Print what each process held at rest, under load and afterwards."""
    n_each = max(1, len(taken) // N_QUARTERS)
    quarters = [taken[at * n_each : (at + 1) * n_each] for at in range(N_QUARTERS)]

    def mean(samples: list[dict[str, Sample]], service: str) -> float:
        return statistics.mean(sample[service].memory_bytes for sample in samples) / MIB

    rows, growths = [], []
    for service in SERVICES:
        means = [mean(quarter, service) for quarter in quarters if quarter]
        before, after = at_rest[service], afterwards[service]
        rows.append(
            [
                service,
                f"{before.memory_bytes / MIB:.1f}",
                " ".join(f"{size:.1f}" for size in means),
                f"{after.memory_bytes / MIB:.1f}",
                f"{before.descriptors} → {after.descriptors}",
                f"{before.threads} → {after.threads}",
            ]
        )
        growths.append((service, means[-1] / means[0]))
    table(
        ["process", "at rest MiB", "quarters MiB", "after MiB", "descriptors", "threads"],
        rows,
    )
    results = [
        bar(f"{service} last / first", ratio, MOST_GROWTH, at_most=True)
        for service, ratio in growths
    ]
    return all(results)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--every", type=float, default=10, help="seconds between two samples")
    chosen = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory() as folder,
        RunningStack(Path(folder) / "stack.log") as stack,
    ):
        say(f"processors: {psutil.cpu_count()}")
        kept = asyncio.run(soak(stack, chosen.clients, chosen.minutes, chosen.every))
    return 0 if kept else 1
