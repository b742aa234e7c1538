"""Prompts and answers of one model through each engine, beside llama-server in the same run.

    python3 run.py bench make-model
    python3 run.py bench make-model --safetensors
    LLAMA_SERVER_BIN=…/llama-server GENAI_PYTHON=…/python python3 run.py bench engines

GENAI_PYTHON is an interpreter of another environment, with openvino-genai of this OpenVINO's
version: its continuous batching computes the same converted model, as a library, and is compared
with our engine without worker and gateway.

Prompt speed is tokens/s of prompts until the first token; answer speed is output tokens/s of
clients with short prompts. Load time is that of the first request, with the conversion done.
Engines are measured one after the other, so that only one model is in memory; run it again where
other programs compute.

    python3 run.py bench engines --json engines.json --engines "openvino int8"
    python3 run.py bench plot-engines engines.json docs/images/engines.svg

The file keeps the figures of engines that a later run does not measure.
"""

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil

from benchmarks.chat import WORDS, llama_server, load, our_stack
from benchmarks.engine_figures import Figures, Report, write_report
from benchmarks.http_load import Connection
from benchmarks.library_engines import (
    ALONE,
    GENAI,
    GENAI_DEFAULTS,
    figures_without_server,
    task_of,
)
from benchmarks.report import bar, say, table
from worker_runtime.machine.processor import read_processor

MODELS = Path(__file__).parent / "models"
GGUF, FOLDER = MODELS / "qwen-shape-0.5b-Q8_0.gguf", MODELS / "qwen-shape-0.5b"
SLOTS = 8
N_CTX = 8192
N_BATCH = 512  # our default; GenAI's is 256
HTTP_OK = 200
PROMPT_WORDS = (60, 600, 3000)
CLIENTS = (1, 4, 8)


class Bars(NamedTuple):
    """The least ratios to a peer.

    Args:
        stream: of one client's answer.
        clients: of several clients' answers.
    """

    prompt: float
    stream: float
    clients: float


SERVER_BARS, GENAI_BARS = Bars(2.3, 1.0, 1.6), Bars(0.9, 0.9, 0.9)

OPENVINO = ("openvino int8", "openvino int4", "openvino bf16")
Server = Callable[[], contextlib.AbstractContextManager[int]]


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


def measures(
    arguments: argparse.Namespace, binary: str | None, genai_python: str | None
) -> dict[str, Callable[[], Figures]]:
    """How to measure each engine that was chosen and is there."""
    gguf, folder, threads = arguments.gguf, arguments.folder, arguments.threads
    clients = tuple(arguments.clients)

    def ours(model: Path, backend: str, **more: str) -> Callable[[], Figures]:
        settings = {"TORCH_NUM_THREADS": str(threads), "MODEL_BACKEND": backend} | more
        return of(lambda: our_stack(model, threads, SLOTS, N_CTX, **settings))

    def of(server: Server) -> Callable[[], Figures]:
        return lambda: measure(server, clients, arguments.rounds)

    def alone(name: str) -> Callable[[], Figures]:
        return lambda: figures_without_server(
            name,
            genai_python or "",
            gguf,
            task_of(
                gguf,
                n_slots=SLOTS,
                n_ctx=N_CTX,
                n_batch=N_BATCH,
                n_threads=threads,
                words=PROMPT_WORDS,
                clients=clients,
                rounds=arguments.rounds,
            ),
        )

    found = {
        "llama.cpp": ours(gguf, "llama.cpp"),
        "openvino int8": ours(gguf, "openvino", OPENVINO_PRECISION="int8"),
        "openvino int4": ours(
            gguf, "openvino", OPENVINO_PRECISION="int8", OPENVINO_WEIGHT_BITS="4"
        ),
        "openvino bf16": ours(gguf, "openvino", OPENVINO_PRECISION="bf16"),
        "transformers": ours(folder, "transformers"),
    }
    names = (ALONE, GENAI, GENAI_DEFAULTS) if genai_python else (ALONE,)
    found |= {name: alone(name) for name in names}
    if binary:
        # Its context is divided among its slots.
        found["llama-server"] = of(lambda: llama_server(binary, gguf, threads, SLOTS, n_ctx=N_CTX))
    return {name: measured for name, measured in found.items() if name in arguments.engines}


def machine() -> str:
    return f"{read_processor().name}, {psutil.cpu_count(logical=False)} cores"


def say_skipped(chosen: list[str], measured: set[str]) -> None:
    needed = {"llama-server": "LLAMA_SERVER_BIN"} | dict.fromkeys(
        (GENAI, GENAI_DEFAULTS), "GENAI_PYTHON"
    )
    for name in chosen:
        if name not in measured:
            say(f"skipping {name}: {needed[name]} is not set")


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
    """Whether OpenVINO keeps its bars beside each peer that was measured. GenAI has no server
    around it, and so is compared with our engine alone."""
    kept = []
    for name, peer, bars in (
        ("openvino int8", "llama-server", SERVER_BARS),
        (ALONE, GENAI, GENAI_BARS),
        (ALONE, GENAI_DEFAULTS, GENAI_BARS),
    ):
        if name not in figures or peer not in figures:
            continue
        ours, theirs = figures[name], figures[peer]
        for n in PROMPT_WORDS:
            ratio = ours.prompts[n] / theirs.prompts[n]
            kept.append(bar(f"prompts of {n} words / {peer}", ratio, bars.prompt, at_most=False))
        for n, speed in ours.answers.items():
            ratio = speed / theirs.answers[n]
            least = bars.stream if n == 1 else bars.clients
            kept.append(bar(f"{n} client(s) / {peer}", ratio, least, at_most=False))
    return all(kept)


def main(argv: list[str]) -> int:
    names = [
        *("llama.cpp", *OPENVINO, "transformers", ALONE),
        *(GENAI, GENAI_DEFAULTS, "llama-server"),
    ]
    parser = argparse.ArgumentParser(
        prog="run.py bench engines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--gguf", type=Path, default=GGUF)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the same for transformers")
    parser.add_argument("--engines", nargs="+", choices=names, default=names)
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: each server's own choice")
    parser.add_argument("--json", type=Path, help="file to keep the figures in")
    arguments = parser.parse_args(argv)
    binary, genai_python = map(os.environ.get, ("LLAMA_SERVER_BIN", "GENAI_PYTHON"))  # noqa: TID251 -- a benchmark is its own outermost caller
    wanted = measures(arguments, binary, genai_python)
    say_skipped(arguments.engines, set(wanted))
    figures = {}
    for name, measured in wanted.items():
        say(f"measuring {name}")
        figures[name] = measured()
        if arguments.json is not None:
            write_report(arguments.json, Report(machine(), arguments.gguf.stem, figures), names)
    show(figures)
    return 0 if compared(figures) else 1
