"""Time to load a model and to the first token, beside llama-server started by hand for it.

    python3 run.py bench make-model
    LLAMA_SERVER_BIN=…/llama-server python3 run.py bench cold

The file is in the page cache for both, and the memory is touched before each load: a virtual
machine may have given free memory back to its host, and waits for each page that it takes again
(seconds for each GB, for whichever server comes first). llama-server is asked for its health every
10 ms, and the request sent once it is ready.
"""

import argparse
import asyncio
import mmap
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil

from benchmarks.chat import MODEL, llama_server, load, our_stack
from benchmarks.report import bar, median_ratio, table

N_SLOTS = 4


class Cold(NamedTuple):
    load_s: float
    # With the load.
    first_token_s: float


def ours(http: httpx.Client, model: Path, number: int) -> Cold:
    """With the model unloaded before and after, so that llama-server has the machine alone."""
    touch_memory(model)
    began_s = time.perf_counter()
    ask(http, "load", model)
    load_s = time.perf_counter() - began_s
    ask(http, "unload", model)
    touch_memory(model)
    port = http.base_url.port or 80
    first = asyncio.run(load(port, 1, 1, 1_000_000 * number)).first_token_s
    ask(http, "unload", model)
    return Cold(load_s, first)


def ask(http: httpx.Client, what: str, model: Path) -> None:
    http.post(f"/v1/models/{what}", json={"model": model.stem}).raise_for_status()


def theirs(binary: str, model: Path, threads: int, number: int) -> Cold:
    touch_memory(model)
    began_s = time.perf_counter()
    with llama_server(binary, model, threads, N_SLOTS) as port:
        load_s = time.perf_counter() - began_s
        first = asyncio.run(load(port, 1, 1, 1_000_000 * number))
        return Cold(load_s, load_s + first.first_token_s)


def touch_memory(model: Path) -> None:
    """Write to more memory than either server takes, in a process that then ends."""
    if sys.platform != "linux":
        return
    n_bytes = min(2 * model.stat().st_size + (2 << 30), psutil.virtual_memory().available * 3 // 4)
    toucher = multiprocessing.get_context("spawn").Process(target=_touch, args=(n_bytes,))
    toucher.start()
    toucher.join()


def _touch(n_bytes: int) -> None:
    with mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        # Weights are in such pages, for which Linux takes other memory than for small ones.
        memory.madvise(mmap.MADV_HUGEPAGE)
        for page in range(0, n_bytes, mmap.PAGESIZE):
            memory[page] = 1


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench cold", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    binary = os.environ.get("LLAMA_SERVER_BIN")  # noqa: TID251 -- a benchmark is its own outermost caller
    threads = os.cpu_count() or 2
    found: dict[str, list[Cold]] = {"y26hkx": [], "llama-server": []}
    with (
        our_stack(arguments.model, threads, N_SLOTS) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as http,
    ):
        asyncio.run(load(port, 1, 1, 1))
        ask(http, "unload", arguments.model)
        for number in range(1, arguments.rounds + 1):
            if binary:
                found["llama-server"].append(theirs(binary, arguments.model, threads, number))
            found["y26hkx"].append(ours(http, arguments.model, number))
    table(
        ["server", "load s", "first token s"],
        [
            [name, *(f"{statistics.median(times):.2f}" for times in zip(*all_times, strict=True))]
            for name, all_times in found.items()
            if all_times
        ],
    )
    if not binary:
        return 0

    def ratio(time_of: Callable[[Cold], float]) -> float:
        return median_ratio(*(list(map(time_of, times)) for times in found.values()))

    kept = [
        bar("load", ratio(lambda cold: cold.load_s), 1.1, at_most=True),
        bar("cold first token", ratio(lambda cold: cold.first_token_s), 1.2, at_most=True),
    ]
    return 0 if all(kept) else 1
