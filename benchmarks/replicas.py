"""What more embedding workers give, and what clients lose while containers change.

    python3 run.py bench replicas [--seconds 15] [--only texts|events]

The stack of docker-compose.yml runs in a project of its own, with the images that are there.
"texts/s" is what 8 clients get with 16 texts a request, while each replica may use all processors,
or its part of them (EMBED_CPUS). Events happen while 8 clients ask as fast as they are answered,
half of them for chat; whatever is not answered with 200 is lost.
"""

import argparse
import itertools
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from benchmarks.report import say, table
from tests.containers.composed import AUTHORIZED, Composed, docker
from worker_runtime.machine.processor import read_processor

N_CLIENTS, N_TEXTS = 8, 16
REPLICAS = (1, 2, 3)
PAUSE_S, BEFORE_AND_AFTER_S = 10, 3
UP = ("up", "--detach", "--no-build", "--wait")
# About 20 tokens; the number makes each new, since vectors of the same text are kept.
TEXT = "Sentence {} of a document about containers, their memory and their processors."


def texts_per_s(stack: Composed, seconds: float) -> float:
    """Texts that clients get vectors of in a second."""
    numbers, n_texts = itertools.count(), [0] * N_CLIENTS
    deadline = time.monotonic() + seconds

    def client(number: int) -> None:
        with httpx.Client(base_url=stack.base_url, headers=AUTHORIZED, timeout=60) as http:
            while time.monotonic() < deadline:
                texts = [TEXT.format(next(numbers)) for _ in range(N_TEXTS)]
                http.post("/v1/embeddings", json={"input": texts}).raise_for_status()
                n_texts[number] += N_TEXTS

    threads = [threading.Thread(target=client, args=(n,)) for n in range(N_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(n_texts) / seconds


def texts_table(seconds: float) -> None:
    n_cores = os.cpu_count() or 1
    rows = []
    for shared in (False, True):
        for n_replicas in REPLICAS:
            cpus = round(n_cores / n_replicas, 2) if shared else 0
            with (
                tempfile.TemporaryDirectory() as folder,
                Composed(Path(folder), EMBED_CPUS=str(cpus)) as stack,
            ):
                stack.compose(*UP, "--scale", f"embed_worker={n_replicas}")
                # Each loads its model when the gateway sends it something.
                texts_per_s(stack, seconds)
                found = texts_per_s(stack, seconds)
            given = str(cpus) if shared else "all"
            rows.append([str(n_replicas), given, f"{found:.0f}", f"{os.getloadavg()[0]:.1f}"])
    table(["replicas", "processors each", "texts/s", "load"], rows)


def scale(stack: Composed) -> None:
    for n_replicas in (3, 1):
        stack.compose(*UP, "--scale", f"embed_worker={n_replicas}")


def kill(stack: Composed) -> None:
    stack.kill_processes("embed_worker")
    stack.kill_processes("chat_worker")


def recreate(stack: Composed) -> None:
    for service in ("chat_worker", "embed_worker"):
        stack.compose(*UP, "--no-deps", "--force-recreate", service)


def pause_one_of_two(stack: Composed) -> None:
    stack.compose(*UP, "--scale", "embed_worker=2")
    paused = stack.containers("embed_worker")[0]
    docker("pause", paused)
    time.sleep(PAUSE_S)
    docker("unpause", paused)


EVENTS: dict[str, Callable[[Composed], None]] = {
    "embedding workers 1 → 3 → 1": scale,
    "kill -9 of both workers, one of each": kill,
    "both workers anew, one after the other": recreate,
    f"one of two embedding workers paused for {PAUSE_S} s": pause_one_of_two,
}


def events_table() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder, Composed(Path(folder)) as stack:
        for name, happens in EVENTS.items():
            stack.compose(*UP, "--scale", "embed_worker=1")
            with stack.under_load(N_CLIENTS) as load:
                time.sleep(BEFORE_AND_AFTER_S)
                happens(stack)
                time.sleep(BEFORE_AND_AFTER_S)
            rows.append([name, str(load.n_done), str(len(load.failures))])
            rows[-1].append(f"{os.getloadavg()[0]:.1f}")
            for failure in {*load.failures}:
                say(f"{name}: {failure}")
    table(["event", "requests", "lost", "load"], rows)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench replicas", description=__doc__)
    parser.add_argument("--seconds", type=float, default=15, help="for each row of texts/s")
    parser.add_argument("--only", choices=["texts", "events"])
    chosen = parser.parse_args(argv)
    say(f"{read_processor().name}, {os.cpu_count()} cores")
    if chosen.only != "events":
        texts_table(chosen.seconds)
    if chosen.only != "texts":
        events_table()
    return 0
