"""all-MiniLM-L6-v2 through the whole stack beside its bare model, and beside other servers.

    python3 run.py bench embeddings
    LLAMA_SERVER_BIN=… INFINITY_BIN=… python3 run.py bench embeddings --gguf all-MiniLM-L6-v2.gguf

All are measured in turns within one run; nothing is ever sent twice, so no cache helps.
"""

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import msgspec

from benchmarks.http_load import Connection
from benchmarks.peer import peer
from benchmarks.report import bar, median_ratio, say, table
from embed_worker.discovery import built_in_folder
from embed_worker.encoders import openvino
from embed_worker.encoders.loaded import LoadedEncoder
from embed_worker.engine.batcher import pack
from embed_worker.settings import EmbedSettings
from tests.running_stack import MINILM, RunningStack, free_port

N_CLIENTS = 32
N_EACH = 30  # so that opening the connections is little of it
N_MIXED = 512
WORDS = ("small", "machine", "memory", "model", "server", "worker", "prompt", "記憶體", "模型")
LENGTHS = (4, 8, 16, 32, 64, 150)
OURS = "y26hkx"
# The file that llama-server has, instead of what OpenVINO computes.
OURS_ON_GGUF = "y26hkx with the GGUF file"
ENCODER = "embed_worker.encoder_process"
# By server, one figure a round.
Figures = dict[str, list[float]]


class Texts:
    """Never the same twice."""

    def __init__(self) -> None:
        self._chance = random.Random(7)

    def short(self) -> str:
        return self._of(8)

    def mixed(self, count: int) -> list[str]:
        return [self._of(self._chance.choice(LENGTHS)) for _ in range(count)]

    def _of(self, n_words: int) -> str:
        return f"{self._chance.getrandbits(40)} {' '.join(self._chance.choices(WORDS, k=n_words))}"


class Bare:
    """The model as an encoder process has it, called directly."""

    def __init__(self, settings: EmbedSettings) -> None:
        folder = built_in_folder()
        if folder is None:
            raise RuntimeError("the built-in model is not installed")
        self.max_rows = settings.batch_rows
        self.model: LoadedEncoder = openvino.load(
            folder,
            cache=settings.converted_dir,
            precision=settings.precision,
            n_threads=settings.threads,
            on_progress=lambda fraction, stage: None,
        )

    def encode(self, texts: list[str]) -> None:
        """In batches of like length, each as large as the stack would take."""
        rows = sorted(self.model.tokens.rows(texts).rows, key=lambda row: -len(row.ids))
        while rows:
            lengths = [len(row.ids) for row in rows]
            budget = self.model.batch_tokens
            chosen = set(pack(lengths, max_tokens=budget, max_rows=self.max_rows))
            self.model.runner.encode([row for index, row in enumerate(rows) if index in chosen])
            rows = [row for index, row in enumerate(rows) if index not in chosen]


def seconds(run: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    run()
    return time.perf_counter() - began_s


async def post(connection: Connection, texts: Sequence[str]) -> None:
    body = {"model": MINILM, "input": texts, "encoding_format": "base64"}
    status, reply = await connection.post("/v1/embeddings", msgspec.json.encode(body))
    if status != httpx.codes.OK:
        raise RuntimeError(f"status {status}: {reply[:200]!r}")


async def one_by_one(port: int, texts: Texts, count: int) -> float:
    """Median seconds of a short text, one at a time."""
    took_s = []
    async with Connection("127.0.0.1", port) as connection:
        for _ in range(count):
            began_s = time.perf_counter()
            await post(connection, [texts.short()])
            took_s.append(time.perf_counter() - began_s)
    return statistics.median(took_s)


async def crowd(port: int, texts: Texts, n_each: int) -> float:
    """Short texts a second from many clients."""

    async def client() -> None:
        async with Connection("127.0.0.1", port) as connection:
            for _ in range(n_each):
                await post(connection, [texts.short()])

    began_s = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(N_CLIENTS)))
    return N_CLIENTS * n_each / (time.perf_counter() - began_s)


async def bulk(port: int, texts: list[str]) -> float:
    """Texts a second of one large request."""
    async with Connection("127.0.0.1", port) as connection:
        began_s = time.perf_counter()
        await post(connection, texts)
        return len(texts) / (time.perf_counter() - began_s)


def peers(gguf: Path | None) -> Iterator[tuple[str, list[str], int]]:
    environment = os.environ  # noqa: TID251 -- a benchmark is its own outermost caller
    if (binary := environment.get("LLAMA_SERVER_BIN")) and gguf is not None:
        port = free_port()
        arguments = [binary, "-m", str(gguf), "--embedding", "--port", str(port), "-np", "8"]
        yield "llama-server", [*arguments, "-c", "4096", "--pooling", "mean"], port
    if binary := environment.get("INFINITY_BIN"):
        port = free_port()
        arguments = [binary, "v2", "--model-id", str(built_in_folder()), "--port", str(port)]
        yield "infinity", [*arguments, "--served-model-name", MINILM, "--url-prefix", "/v1"], port


def ours_on(gguf: Path, folder: Path) -> RunningStack:
    embedding = folder / "models" / "embedding"
    embedding.mkdir(parents=True)
    shutil.copyfile(gguf, embedding / f"{MINILM}.gguf")
    return RunningStack(
        folder / "gguf-log",
        ENABLE_MODEL_CACHE="0",
        EMBEDDING_BACKEND="llama.cpp",
        MODELS_DIR=str(folder / "models"),
    )


def measure(ports: dict[str, int], bare: Bare, rounds: int) -> bool:
    texts = Texts()
    names = ["bare model", *ports]
    alone: Figures = {name: [] for name in names}
    many: Figures = {name: [] for name in ports}
    mixed: Figures = {name: [] for name in names}
    for _ in range(rounds):
        singles = [seconds(lambda: bare.encode([texts.short()])) for _ in range(100)]
        alone["bare model"].append(statistics.median(singles))
        same = texts.mixed(N_MIXED)
        mixed["bare model"].append(N_MIXED / seconds(lambda same=same: bare.encode(same)))  # type: ignore[misc]
        for name, port in ports.items():
            alone[name].append(asyncio.run(one_by_one(port, texts, 100)))
            many[name].append(asyncio.run(crowd(port, texts, N_EACH)))
            mixed[name].append(asyncio.run(bulk(port, same)))
    table(
        [
            "",
            "one short text, p50 ms",
            f"{N_CLIENTS} clients, texts/s",
            f"{N_MIXED} mixed, texts/s",
        ],
        [
            [
                name,
                f"{statistics.median(alone[name]) * 1e3:.2f}",
                f"{statistics.median(many[name]):.0f}" if name in many else "",
                f"{statistics.median(mixed[name]):.0f}",
            ]
            for name in names
        ],
    )
    return all([*beside_bare(alone, mixed), *beside_peers(alone, many, mixed)])


def beside_bare(alone: Figures, mixed: Figures) -> list[bool]:
    return [
        bar("p50 / bare model's", ratio(alone, "bare model"), 2.0, at_most=True),
        bar("mixed texts/s / bare model's", ratio(mixed, "bare model"), 0.9, at_most=False),
    ]


def beside_peers(alone: Figures, many: Figures, mixed: Figures) -> list[bool]:
    """Beside whichever is best at it."""
    names = [name for name in many if name not in (OURS, OURS_ON_GGUF)]
    if not names:
        return []
    crowd, whole = (min(ratio(figures, name) for name in names) for figures in (many, mixed))
    return [
        bar("p50 / the best peer's", max(ratio(alone, name) for name in names), 0.8, at_most=True),
        bar(f"texts/s of {N_CLIENTS} clients / the best peer's", crowd, 2.0, at_most=False),
        bar("mixed texts/s / the best peer's", whole, 2.0, at_most=False),
    ]


def frugal(stack: RunningStack) -> bool:
    """Whether the encoder is small after all that work, and quick to start again."""
    resident_mb = stack.one(ENCODER).memory_info().rss / 1e6
    stack.http.post("/v1/models/unload", json={"model": MINILM}).raise_for_status()
    load_s = seconds(
        lambda: stack.http.post("/v1/models/load", json={"model": MINILM}).raise_for_status()
    )
    return all(
        [
            bar("resident MB of the encoder", resident_mb, 250, at_most=True),
            bar("seconds to start a converted model", load_s, 2.0, at_most=True),
        ]
    )


def ratio(figures: Figures, other: str) -> float:
    """Ours to another's."""
    return median_ratio(figures[OURS], figures[other])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench embeddings", description=__doc__)
    parser.add_argument("--gguf", type=Path, help="the same model, for llama-server and us")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(argv)
    with contextlib.ExitStack() as servers:
        folder = Path(servers.enter_context(tempfile.TemporaryDirectory()))
        stack = servers.enter_context(RunningStack(folder / "log", ENABLE_MODEL_CACHE="0"))
        ports = {OURS: stack.port}
        if arguments.gguf is not None:
            on_gguf = servers.enter_context(ours_on(arguments.gguf, folder))
            ports[OURS_ON_GGUF] = on_gguf.port
        for name, command, port in peers(arguments.gguf):
            ports[name] = servers.enter_context(peer(command, port))
        for port in ports.values():
            asyncio.run(bulk(port, Texts().mixed(32)))
        bare = Bare(EmbedSettings(_env_file=None))
        say(f"batches of {bare.model.batch_tokens} tokens in {bare.model.precision}")
        return 0 if all([measure(ports, bare, arguments.rounds), frugal(stack)]) else 1
