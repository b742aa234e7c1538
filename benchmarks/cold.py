"""Time to the first token with nothing loaded, beside llama-server started by hand for it.

    python3 run.py bench make-model
    LLAMA_SERVER_BIN=…/llama-server python3 run.py bench cold

The file is in the page cache for both. llama-server is asked for its health every 10 ms, and the
request sent once it is ready.
"""

import argparse
import asyncio
import os
import statistics
import time
from pathlib import Path

import httpx

from benchmarks.chat import MODEL, llama_server, load, our_stack
from benchmarks.report import bar, median_ratio, table

N_SLOTS = 4


def ours(port: int, model: str, number: int) -> float:
    httpx.post(
        f"http://127.0.0.1:{port}/v1/models/unload", json={"model": model}, timeout=30
    ).raise_for_status()
    return asyncio.run(load(port, 1, 1, 1_000_000 * number)).first_token_s


def theirs(binary: str, model: Path, threads: int, number: int) -> float:
    began_s = time.perf_counter()
    with llama_server(binary, model, threads, N_SLOTS) as port:
        ready_s = time.perf_counter() - began_s
        return ready_s + asyncio.run(load(port, 1, 1, 1_000_000 * number)).first_token_s


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench cold", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    binary = os.environ.get("LLAMA_SERVER_BIN")  # noqa: TID251 -- a benchmark is its own outermost caller
    threads = os.cpu_count() or 2
    found: dict[str, list[float]] = {"y26hkx": [], "llama-server": []}
    with our_stack(arguments.model, threads, N_SLOTS) as port:
        asyncio.run(load(port, 1, 1, 1))
        for number in range(1, arguments.rounds + 1):
            found["y26hkx"].append(ours(port, arguments.model.stem, number))
            if binary:
                found["llama-server"].append(theirs(binary, arguments.model, threads, number))
    table(
        ["server", "first token s"],
        [[name, f"{statistics.median(times):.3f}"] for name, times in found.items() if times],
    )
    if not binary:
        return 0
    ratio = median_ratio(found["y26hkx"], found["llama-server"])
    return 0 if bar("cold first token", ratio, 1.2, at_most=True) else 1
