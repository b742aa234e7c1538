"""Prompts and answers of one model through each engine, beside llama-server in the same run.

    python3 run.py bench make-model
    python3 run.py bench make-model --safetensors
    LLAMA_SERVER_BIN=…/llama-server python3 run.py bench engines

Prompt speed is tokens/s of prompts until the first token; answer speed is output tokens/s of
clients with short prompts. Load time is that of the first request, with the conversion done.
Servers are measured one after the other, so that only one model is in memory; run it again where
other programs compute.
"""

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from benchmarks.chat import WORDS, llama_server, load, our_stack
from benchmarks.http_load import Connection
from benchmarks.report import bar, say, table

MODELS = Path(__file__).parent / "models"
GGUF, FOLDER = MODELS / "qwen-shape-0.5b-Q8_0.gguf", MODELS / "qwen-shape-0.5b"
SLOTS = 8
N_CTX = 8192
HTTP_OK = 200
PROMPT_WORDS = (60, 600, 3000)
CLIENTS = (1, 4, 8)
LEAST_PROMPT_RATIO, LEAST_CLIENTS_RATIO, LEAST_STREAM_RATIO = 2.3, 1.6, 1.0

OPENVINO = ("openvino int8", "openvino int4", "openvino bf16")
Server = Callable[[], contextlib.AbstractContextManager[int]]


@dataclass(frozen=True)
class Figures:
    """Args:
    prompts: tokens/s by the number of words.
    answers: tokens/s by the number of clients.
    """

    load_s: float
    memory_mib: float
    prompts: dict[int, float]
    answers: dict[int, float]


async def prompt_speed(port: int, n_words: int, seed: int) -> float:
    """Prompt tokens/s until the first token of the answer."""
    words = random.Random(seed).choices(WORDS, k=n_words)
    body = msgspec.json.encode(
        {
            "messages": [{"role": "user", "content": f"{seed} {' '.join(words)}"}],
            "max_tokens": 1,
            "temperature": 0,
            "ignore_eos": True,
        }
    )
    async with Connection("127.0.0.1", port) as connection:
        started = time.perf_counter()
        status, answer = await connection.post("/v1/chat/completions", body)
        took = time.perf_counter() - started
    if status != HTTP_OK:
        raise RuntimeError(answer.decode("utf-8", "replace"))
    usage = msgspec.json.decode(answer)["usage"]
    return float(usage["prompt_tokens"] / took)


def measure(server: Server, clients: tuple[int, ...], rounds: int) -> Figures:
    children = set(psutil.Process().children(recursive=True))
    with server() as port:
        began = time.perf_counter()
        asyncio.run(prompt_speed(port, 5, 1))
        load_s = time.perf_counter() - began
        prompts = {
            n: statistics.median(
                asyncio.run(prompt_speed(port, n, 100 * n + round_)) for round_ in range(rounds)
            )
            for n in PROMPT_WORDS
        }
        answers = {
            n: statistics.median(
                asyncio.run(load(port, n, 1, 1_000_000 * (round_ + 1) + n)).tokens_per_s
                for round_ in range(rounds)
            )
            for n in clients
        }
        ours = set(psutil.Process().children(recursive=True)) - children
        memory = sum(process.memory_info().rss for process in ours)
    return Figures(load_s, memory / 2**20, prompts, answers)


def servers(arguments: argparse.Namespace, binary: str | None) -> dict[str, Server]:
    gguf, folder, threads = arguments.gguf, arguments.folder, arguments.threads

    def ours(model: Path, backend: str, **more: str) -> Server:
        settings = {"TORCH_NUM_THREADS": str(threads), "MODEL_BACKEND": backend} | more
        return lambda: our_stack(model, threads, SLOTS, N_CTX, **settings)

    found = {
        "llama.cpp": ours(gguf, "llama.cpp"),
        "openvino int8": ours(gguf, "openvino", OPENVINO_PRECISION="int8"),
        "openvino int4": ours(
            gguf, "openvino", OPENVINO_PRECISION="int8", OPENVINO_WEIGHT_BITS="4"
        ),
        "openvino bf16": ours(gguf, "openvino", OPENVINO_PRECISION="bf16"),
        "transformers": ours(folder, "transformers"),
    }
    if binary:
        # Its context is divided among its slots.
        found["llama-server"] = lambda: llama_server(binary, gguf, threads, SLOTS, n_ctx=N_CTX)
    return {name: server for name, server in found.items() if name in arguments.engines}


def show(figures: dict[str, Figures]) -> None:
    clients = list(next(iter(figures.values())).answers)
    table(
        [
            "engine",
            "load s",
            "MiB",
            *(f"prompt of {n} words, tokens/s" for n in PROMPT_WORDS),
            *(f"{n} client(s), tokens/s" for n in clients),
        ],
        [
            [
                name,
                f"{f.load_s:.1f}",
                f"{f.memory_mib:.0f}",
                *(f"{f.prompts[n]:.0f}" for n in PROMPT_WORDS),
                *(f"{f.answers[n]:.1f}" for n in clients),
            ]
            for name, f in figures.items()
        ],
    )


def compared(figures: dict[str, Figures]) -> bool:
    ours, theirs = figures.get("openvino int8"), figures.get("llama-server")
    if ours is None or theirs is None:
        return True
    kept = [
        bar(
            f"prompts of {n} words, ratio",
            ours.prompts[n] / theirs.prompts[n],
            LEAST_PROMPT_RATIO,
            at_most=False,
        )
        for n in PROMPT_WORDS[1:]
    ]
    for n, speed in ours.answers.items():
        least = LEAST_STREAM_RATIO if n == 1 else LEAST_CLIENTS_RATIO
        kept.append(bar(f"{n} client(s), ratio", speed / theirs.answers[n], least, at_most=False))
    return all(kept)


def main(argv: list[str]) -> int:
    names = ["llama.cpp", *OPENVINO, "transformers", "llama-server"]
    parser = argparse.ArgumentParser(prog="run.py bench engines", description=__doc__)
    parser.add_argument("--gguf", type=Path, default=GGUF)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the same for transformers")
    parser.add_argument("--engines", nargs="+", choices=names, default=names)
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: each server's own choice")
    arguments = parser.parse_args(argv)
    binary = os.environ.get("LLAMA_SERVER_BIN")  # noqa: TID251 -- a benchmark is its own outermost caller
    figures = {}
    for name, server in servers(arguments, binary).items():
        say(f"measuring {name}")
        figures[name] = measure(server, tuple(arguments.clients), arguments.rounds)
    show(figures)
    return 0 if compared(figures) else 1
