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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.http_load import Stream, send_alone, send_from_process
from benchmarks.peer import peer
from benchmarks.report import bar, median_ratio, say, table
from tests.busy_program import busy_program
from tests.running_stack import RunningStack, free_port

MODEL = Path(__file__).parent / "models" / "qwen-shape-0.5b-Q4_K_M.gguf"
N_TOKENS = 64
N_WORDS = 60
N_CTX = 1024
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


@dataclass(frozen=True)
class Requests:
    """What all requests of a measurement have in common.

    Args:
        n_words: of each prompt.
        extra: more fields of the body.
        from_processes: each request comes from a program that starts for it.
    """

    n_words: int = N_WORDS
    extra: Extra = field(default_factory=dict)
    from_processes: bool = False


def body(seed: int, requests: Requests) -> bytes:
    """A prompt of its own for each seed, so that no prefix cache helps."""
    words = random.Random(seed).choices(WORDS, k=requests.n_words)
    return msgspec.json.encode(
        {
            "messages": [{"role": "user", "content": f"{seed} {' '.join(words)}"}],
            "max_tokens": N_TOKENS,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        | requests.extra
    )


PLAIN = Requests()


async def client(port: int, seeds: range, requests: Requests) -> list[Stream]:
    """One request after the other, each on a connection of its own: llama-server drops some of
    those that come on a connection that was used before."""
    send = send_from_process if requests.from_processes else send_alone
    return [await send(port, "/v1/chat/completions", body(seed, requests)) for seed in seeds]


async def load(
    port: int, n_clients: int, n_requests: int, seed: int, requests: Requests = PLAIN
) -> Figure:
    """`n_clients` at once, each with `n_requests` one after the other."""
    started = time.perf_counter()
    seeds = [range(s, s + n_requests) for s in range(seed, seed + 1000 * n_clients, 1000)]
    parts = await asyncio.gather(*(client(port, r, requests) for r in seeds))
    streams = [stream for part in parts for stream in part]
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
    binary: str, model: Path, threads: int, slots: int, n_ctx: int = N_CTX
) -> contextlib.AbstractContextManager[int]:
    port = free_port()
    arguments = [binary, "-m", str(model), "-np", str(slots)]
    arguments += ["-t", str(threads)] if threads else []
    arguments += ["-c", str(n_ctx * slots), "--port", str(port), "--host", "127.0.0.1"]
    return peer(arguments, port)


@contextlib.contextmanager
def our_stack(
    model: Path, threads: int, slots: int, n_ctx: int = N_CTX, **more: str
) -> Iterator[int]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "stack.log"
        settings = {
            "MODEL_PATH": str(model),
            "LLAMA_THREADS": str(threads),
            "LLAMA_CTX": str(n_ctx),
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
        kept = [
            clients(ports, n, arguments.rounds, Requests(words, {}, arguments.processes))
            for words in arguments.words
            for n in arguments.clients
        ]
    return all(kept)


def place(arguments: argparse.Namespace) -> tuple[Path, int, int, int]:
    """Model, threads, slots, and a context for the longest prompt and its answer."""
    n_ctx = max(N_CTX, 2 * max(arguments.words))
    return arguments.model, arguments.threads, max(arguments.clients), n_ctx


def clients(ports: dict[str, int], n_clients: int, rounds: int, requests: Requests) -> bool:
    """Measure the servers in turns, each first as often, so that the machine's drift hits both."""
    figures: dict[str, list[Figure]] = {name: [] for name in ports}
    for round_number in range(rounds):
        for name, port in sorted(ports.items(), reverse=bool(round_number % 2)):
            seed = 1_000_000 * (round_number + 1) + 1_000 * requests.n_words + n_clients
            figures[name].append(asyncio.run(load(port, n_clients, 2, seed, requests)))
    say(f"\n{n_clients} client(s), {requests.n_words} words, medians of {rounds} rounds")
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
    return bar(
        f"tokens/s ratio at {n_clients}, {requests.n_words} words", ratio, 1.0, at_most=False
    )


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench chat", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--words", type=int, nargs="+", default=[N_WORDS], help="of each prompt")
    parser.add_argument(
        "--processes", action="store_true", help="a program starts for each request"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: each server's own choice")
    parser.add_argument("--beside", type=int, default=0, help="programs that keep a core busy")
    arguments = parser.parse_args(argv)
    binary = os.environ.get("LLAMA_SERVER_BIN")  # noqa: TID251 -- a benchmark is its own outermost caller
    return 0 if measure(arguments, binary) else 1
