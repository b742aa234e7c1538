"""Several embedding workers with a core each beside one with all cores, and one long job.

    python3 run.py bench scale [--workers 1 2 4] [--seconds 10] [--job 100000]

Each of several workers is pinned to its share of the cores, one after the other. "mixed" is what 4
clients get with 64 texts of many lengths a request, "short" what 32 clients get with one short text
each. The job is texts of four words, 2,048 a request, one request after the other: the memory of
gateway, worker and encoder process after a tenth of it and at its end.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import NamedTuple

import psutil

from benchmarks.embeddings import Texts, crowd, post
from benchmarks.http_load import Connection
from benchmarks.peer import wait_for
from benchmarks.report import bar, say, table
from tests.running_stack import KEPT_VARIABLES, MINILM, free_port

N_CLIENTS, N_TEXTS, N_TOGETHER = 4, 64, 2048
N_EACH = 30
GROWTH = 1.02


class Fleet(NamedTuple):
    """A gateway, and its embedding workers."""

    port: int
    processes: list[psutil.Process]

    def resident_mb(self) -> float:
        """Of all of them and the processes below them."""
        family = [each for one in self.processes for each in (one, *one.children(recursive=True))]
        return sum(each.memory_info().rss for each in family) / 1e6


@contextlib.contextmanager
def fleet(n_workers: int) -> Iterator[Fleet]:
    env = {k: v for k, v in psutil.Process().environ().items() if k in KEPT_VARIABLES}
    ports, port = [free_port() for _ in range(n_workers)], free_port()
    with tempfile.TemporaryDirectory() as folder:
        env |= {"ENABLE_MODEL_CACHE": "0", "MEMORY_LEARNT_DIR": folder, "PRELOAD_MODELS": MINILM}
        env |= {"GATEWAY_PORT": str(port), "LOG_LEVEL": "WARNING"}
        env |= {"EMBED_WORKERS": ",".join(f"127.0.0.1:{each}" for each in ports)}
        cores = psutil.Process().cpu_affinity() or []
        started = [subprocess.Popen([sys.executable, "-m", "gateway"], env=env)]
        try:
            for number, each in enumerate(ports):
                own = {"EMBED_WORKER_PORT": str(each)}
                worker = subprocess.Popen([sys.executable, "-m", "embed_worker"], env=env | own)
                started.append(worker)
                if n_workers > 1:
                    # At once, so that its encoder process counts the cores that it has.
                    psutil.Process(worker.pid).cpu_affinity(cores[number::n_workers])
            wait_for(f"http://127.0.0.1:{port}/health/live", within_s=60)
            yield Fleet(port, [psutil.Process(each.pid) for each in started])
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait()


async def mixed(port: int, texts: Texts, seconds: float) -> float:
    """Texts a second."""
    deadline, n_texts = time.monotonic() + seconds, 0

    async def client() -> None:
        nonlocal n_texts
        async with Connection("127.0.0.1", port) as connection:
            while time.monotonic() < deadline:
                await post(connection, texts.mixed(N_TEXTS))
                n_texts += N_TEXTS

    began_s = time.monotonic()
    await asyncio.gather(*(client() for _ in range(N_CLIENTS)))
    return n_texts / (time.monotonic() - began_s)


def workers_table(counts: Sequence[int], seconds: float, rounds: int) -> None:
    texts, rows = Texts(), []
    for n_workers in counts:
        with fleet(n_workers) as made:
            # Meanwhile each loads its model.
            asyncio.run(mixed(made.port, texts, seconds))
            many = [asyncio.run(mixed(made.port, texts, seconds)) for _ in range(rounds)]
            short = [asyncio.run(crowd(made.port, texts, N_EACH)) for _ in range(rounds)]
            figures = (statistics.median(many), statistics.median(short), made.resident_mb())
        rows.append([str(n_workers), *(f"{figure:.0f}" for figure in figures)])
    table(["workers", "mixed, texts/s", "short, texts/s", "resident MB"], rows)


async def job(made: Fleet, n_texts: int) -> tuple[float, float]:
    """Megabytes after a tenth of the texts, and at the end."""
    at_tenth, began_s = 0.0, time.monotonic()
    async with Connection("127.0.0.1", made.port) as connection:
        for first in range(0, n_texts, N_TOGETHER):
            numbers = range(first, min(first + N_TOGETHER, n_texts))
            words = cycle(("small", "machine", "memory", "model", "server"))
            await post(connection, [f"{n} {' '.join(islice(words, 4))}" for n in numbers])
            if not at_tenth and first + N_TOGETHER >= n_texts / 10:
                at_tenth = made.resident_mb()
    say(f"{n_texts} texts in {time.monotonic() - began_s:.0f} s")
    return at_tenth, made.resident_mb()


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench scale", description=__doc__)
    n_cores = os.cpu_count() or 1
    usual = [count for count in (1, 2, 4) if count <= n_cores]
    parser.add_argument("--workers", type=int, nargs="+", default=usual)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--job", type=int, default=100_000, help="texts of it; 0: no job")
    arguments = parser.parse_args(argv)
    workers_table(arguments.workers, arguments.seconds, arguments.rounds)
    if not arguments.job:
        return 0
    with fleet(1) as made:
        before, after = asyncio.run(job(made, arguments.job))
    say(f"resident after a tenth {before:.0f} MB, at the end {after:.0f} MB")
    kept = bar("memory at the end / after a tenth", after / before, GROWTH, at_most=True)
    return 0 if kept else 1
