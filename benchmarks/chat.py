"""Output tokens/s of the whole stack beside llama-server, same GGUF, same run, in turns.

    python3 run.py bench make-model
    LLAMA_SERVER_BIN=…/llama-server python3 run.py bench chat --model benchmarks/models/….gguf

Without LLAMA_SERVER_BIN only our own figures are shown.
"""

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.http_load import Connection, Stream
from benchmarks.peer import peer
from benchmarks.report import bar, median_ratio, say, table
from tests.busy_program import busy_program
from tests.running_stack import RunningStack, free_port

MODEL = Path(__file__).parent / "models" / "qwen-shape-0.5b-Q4_K_M.gguf"
N_TOKENS = 64
WORDS = (
    "small",
    "machine",
    "memory",
    "model",
    "server",
    "token",
    "worker",
    "gateway",
    "cache",
    "prompt",
    "batch",
    "speed",
)


Extra = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    tokens_per_s: float
    first_token_s: float
    max_over_median_latency: float


def body(seed: int, extra: Extra | None = None) -> bytes:
    """A 60-word prompt of its own for each seed, so that no prefix cache helps."""
    words = random.Random(seed).choices(WORDS, k=60)
    return msgspec.json.encode(
        {
            "messages": [{"role": "user", "content": f"{seed} {' '.join(words)}"}],
            "max_tokens": N_TOKENS,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        | (extra or {})
    )


async def client(port: int, seeds: range, extra: Extra | None) -> list[Stream]:
    """One request after the other, each on a connection of its own: llama-server drops some of
    those that come on a connection that was used before."""
    streams = []
    for seed in seeds:
        async with Connection("127.0.0.1", port) as connection:
            streams.append(await connection.stream("/v1/chat/completions", body(seed, extra)))
    return streams


async def load(
    port: int, n_clients: int, n_requests: int, seed: int, extra: Extra | None = None
) -> Figure:
    """`n_clients` at once, each with `n_requests` one after the other."""
    started = time.perf_counter()
    seeds = [range(s, s + n_requests) for s in range(seed, seed + 1000 * n_clients, 1000)]
    streams = [
        s for part in await asyncio.gather(*(client(port, r, extra) for r in seeds)) for s in part
    ]
    took = time.perf_counter() - started
    if any(stream.n_tokens != N_TOKENS for stream in streams):
        raise RuntimeError(f"short answers: {[(s.status, s.n_tokens) for s in streams]}")
    latencies = [stream.event_times_s[-1] - stream.started_s for stream in streams]
    return Figure(
        sum(stream.n_tokens for stream in streams) / took,
        statistics.median(stream.first_token_s for stream in streams),
        max(latencies) / statistics.median(latencies),
    )


def llama_server(
    binary: str, model: Path, threads: int, slots: int, n_ctx: int = 1024
) -> contextlib.AbstractContextManager[int]:
    port = free_port()
    arguments = [binary, "-m", str(model), "-np", str(slots)]
    arguments += ["-t", str(threads)] if threads else []
    arguments += ["-c", str(n_ctx * slots), "--port", str(port), "--host", "127.0.0.1"]
    return peer(arguments, port)


@contextlib.contextmanager
def our_stack(model: Path, threads: int, slots: int, **more: str) -> Iterator[int]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "stack.log"
        settings = {
            "MODEL_PATH": str(model),
            "LLAMA_THREADS": str(threads),
            "LLAMA_CTX": "1024",
            "MAX_CONCURRENT_REQUESTS": str(slots),
        } | more
        with RunningStack(log, **settings) as stack:
            yield stack.port


def measure(arguments: argparse.Namespace, binary: str | None) -> bool:
    with contextlib.ExitStack() as servers:
        for _ in range(arguments.beside):
            servers.enter_context(busy_program())
        ports = {"y26hkx": servers.enter_context(our_stack(*place(arguments)))}
        if binary:
            ports["llama-server"] = servers.enter_context(llama_server(binary, *place(arguments)))
        for port in ports.values():
            asyncio.run(load(port, 1, 1, 10_000_000))
        kept = [clients(ports, n, arguments.rounds) for n in arguments.clients]
    return all(kept)


def place(arguments: argparse.Namespace) -> tuple[Path, int, int]:
    return arguments.model, arguments.threads, max(arguments.clients)


def clients(ports: dict[str, int], n_clients: int, rounds: int) -> bool:
    """Measure the servers in turns, each first as often, so that the machine's drift hits both."""
    figures: dict[str, list[Figure]] = {name: [] for name in ports}
    for round_number in range(rounds):
        for name, port in sorted(ports.items(), reverse=bool(round_number % 2)):
            seed = 1_000_000 * (round_number + 1) + n_clients
            figures[name].append(asyncio.run(load(port, n_clients, 2, seed)))
    say(f"\n{n_clients} client(s), medians of {rounds} rounds")
    table(
        ["server", "tokens/s", "first token s", "max/median latency"],
        [
            [
                name,
                f"{statistics.median(f.tokens_per_s for f in found):.1f}",
                f"{statistics.median(f.first_token_s for f in found):.3f}",
                f"{statistics.median(f.max_over_median_latency for f in found):.2f}",
            ]
            for name, found in figures.items()
        ],
    )
    if len(ports) == 1:
        return True
    ours, theirs = ([f.tokens_per_s for f in found] for found in figures.values())
    ratio = median_ratio(ours, theirs)
    return bar(f"tokens/s ratio at {n_clients}", ratio, 1.0, at_most=False)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench chat", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: each server's own choice")
    parser.add_argument("--beside", type=int, default=0, help="programs that keep a core busy")
    arguments = parser.parse_args(argv)
    binary = os.environ.get("LLAMA_SERVER_BIN")  # noqa: TID251 -- a benchmark is its own outermost caller
    return 0 if measure(arguments, binary) else 1
