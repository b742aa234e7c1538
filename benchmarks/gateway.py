"""The gateway alone: a null worker behind it, so that every microsecond seen is the gateway's.

The gateway runs on one core, the null worker and the load on another. Added latency is the
median of an embedding call through the gateway less the same call straight to the worker. In turns
with it, on the same core, runs `bare_relay`: what FastAPI and gRPC take by themselves here and now,
an RPC for each request.

A third gateway has all features on: keys with every limit, kept usage, logs as JSON. It answers the
same requests in turns with the first, which shows what they cost.

With LITELLM_BIN set (the `litellm` command of `litellm[proxy]`), its proxy answers the same chat
request from its own mock in the same run, on the same core (`litellm_proxy.py`).
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
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import msgspec
import psutil

from benchmarks.http_load import Connection, flood, one_by_one
from benchmarks.litellm_proxy import Figures, compare, litellm_figures
from benchmarks.peer import pin, wait_for
from benchmarks.report import bar, say, table
from gateway.keys.administration import add_key
from gateway.keys.record import Limits, Rights
from protos.y26hkx.v1 import chat_pb2, chat_pb2_grpc, embed_pb2, embed_pb2_grpc
from tests.running_stack import KEPT_VARIABLES, free_port

EMBEDDING = msgspec.json.encode({"input": "hello world", "model": "null-embed"})
CHAT = msgspec.json.encode(
    {"model": "null-chat", "messages": [{"role": "user", "content": "go"}], "max_tokens": 1}
)
N_STREAM_TOKENS = 200
# Their median is shown: a neighbour's burst on this machine lasts about one.
N_ROUNDS = 7
STREAM = msgspec.json.encode(
    {
        "model": "null-chat",
        "messages": [{"role": "user", "content": "go"}],
        "max_tokens": N_STREAM_TOKENS,
        "stream": True,
    }
)


class Full(NamedTuple):
    """A gateway with all features, and a key for it."""

    port: int
    key: str


async def straight_chat(port: int, n: int = 300) -> float:
    """Median seconds of a chat without the gateway."""
    took = []
    conversation = chat_pb2.Conversation(messages=[chat_pb2.Message(role="user", content="go")])
    request = chat_pb2.GenerateRequest(
        model="null-chat", conversation=conversation, max_tokens=1, n=1
    )
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        for _ in range(n):
            started = time.perf_counter()
            async for _ in stub.Generate(request):
                pass
            took.append(time.perf_counter() - started)
    return statistics.median(took)


async def straight(port: int, n: int = 1000) -> float:
    """Median seconds of the same call without the gateway."""
    took = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = embed_pb2_grpc.EmbedServiceStub(channel)
        request = embed_pb2.EmbedRequest(
            model="null-embed", inputs=[embed_pb2.EmbedInput(text="hello world")]
        )
        for _ in range(n):
            started = time.perf_counter()
            await stub.Embed(request)
            took.append(time.perf_counter() - started)
    return statistics.median(took)


async def streams(port: int, n_clients: int = 16, n_each: int = 4, key: str = "") -> float:
    """Streamed tokens per second."""

    async def one() -> int:
        async with Connection("127.0.0.1", port, key) as connection:
            found = [await connection.stream("/v1/chat/completions", STREAM) for _ in range(n_each)]
        return sum(len(stream.event_times_s) for stream in found)

    started = time.perf_counter()
    n_tokens = sum(await asyncio.gather(*(one() for _ in range(n_clients))))
    if n_tokens != n_clients * n_each * N_STREAM_TOKENS:
        raise RuntimeError(f"{n_tokens} events came")
    return n_tokens / (time.perf_counter() - started)


async def one_round(port: int, bare_port: int, full: Full) -> tuple[float, ...]:
    """Embedding requests and streamed tokens per second, ours and the bare relay's, and ours of
    chat requests; the same three with all features."""
    return (
        await flood(port, "/v1/embeddings", EMBEDDING),
        await flood(bare_port, "/v1/embeddings", EMBEDDING),
        await streams(port),
        await streams(bare_port),
        await flood(port, "/v1/chat/completions", CHAT, n_each=50),
        await flood(full.port, "/v1/embeddings", EMBEDDING, key=full.key),
        await streams(full.port, key=full.key),
        await flood(full.port, "/v1/chat/completions", CHAT, n_each=50, key=full.key),
    )


@contextlib.contextmanager
def with_all_features(env: dict[str, str]) -> Iterator[Full]:
    """A gateway with keys, limits, kept usage and logs as JSON."""
    most = Limits(
        requests_per_minute=10**9, tokens_per_minute=10**12, tokens_per_day=10**12,
        tokens_per_month=10**12,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path, port = Path(folder) / "keys", free_port()
        key = add_key(path, Rights(chat=most, embeddings=most, concurrent_requests=10_000)).text
        own = {"GATEWAY_PORT": str(port), "API_KEYS_FILE": str(path), "LOG_FORMAT": "json"}
        # The null worker takes as many as come.
        own["MAX_CONCURRENT_REQUESTS"] = "64"
        process = subprocess.Popen([sys.executable, "-m", "gateway"], env=env | own)
        try:
            pin(process.pid, 0)
            wait_for(f"http://127.0.0.1:{port}/health/ready", within_s=60)
            yield Full(port, key)
        finally:
            process.terminate()
            process.wait()


def main(argv: list[str]) -> int:
    argparse.ArgumentParser(prog="run.py bench gateway", description=__doc__).parse_args(argv)
    worker_port, port, bare_port = free_port(), free_port(), free_port()
    env = {k: v for k, v in psutil.Process().environ().items() if k in KEPT_VARIABLES}
    env |= {
        "GATEWAY_PORT": str(port),
        "CHAT_WORKERS": f"127.0.0.1:{worker_port}",
        "EMBED_WORKERS": f"127.0.0.1:{worker_port}",
    }
    worker = subprocess.Popen([sys.executable, "-m", "benchmarks.null_worker", str(worker_port)])
    began_s = time.monotonic()
    gateway = subprocess.Popen([sys.executable, "-m", "gateway"], env=env)
    bare = None
    try:
        pin(gateway.pid, 0)
        # Without a worker of its own yet, so that nothing else starts on this core.
        wait_for(f"http://127.0.0.1:{port}/health/live", within_s=60)
        start_s = time.monotonic() - began_s
        bare = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare_relay", str(bare_port), str(worker_port)]
        )
        pin(bare.pid, 0)
        # The load too, or it takes its time from the gateway's core.
        for pid in (worker.pid, os.getpid()):
            pin(pid, 1)
        for each in (port, bare_port):
            wait_for(f"http://127.0.0.1:{each}/health/ready", within_s=60)
        added = asyncio.run(one_by_one(port, "/v1/embeddings", EMBEDDING, n=1000))
        direct = asyncio.run(straight(worker_port))
        chat_s = asyncio.run(one_by_one(port, "/v1/chat/completions", CHAT))
        direct_chat_s = asyncio.run(straight_chat(worker_port))
        with with_all_features(env) as full:
            rounds = [asyncio.run(one_round(port, bare_port, full)) for _ in range(N_ROUNDS)]
        rss = psutil.Process(gateway.pid).memory_info().rss / 2**20
    finally:
        for process in filter(None, (gateway, bare, worker)):
            process.terminate()
            process.wait()
    rate, bare_rate, tokens, bare_tokens, chat_rate, full_rate, full_tokens, full_chat = (
        statistics.median(figures) for figures in zip(*rounds, strict=True)
    )
    table(
        ["", "gateway", "all features", "bare relay", "straight to the worker"],
        [
            ["embedding p50 ms", f"{added * 1e3:.2f}", "", "", f"{direct * 1e3:.2f}"],
            ["embedding requests/s", f"{rate:.0f}", f"{full_rate:.0f}", f"{bare_rate:.0f}", ""],
            ["streamed tokens/s", f"{tokens:.0f}", f"{full_tokens:.0f}", f"{bare_tokens:.0f}", ""],
            ["chat requests/s", f"{chat_rate:.0f}", f"{full_chat:.0f}", "", ""],
        ],
    )
    say(f"gateway resident memory: {rss:.0f} MiB")
    if binary := os.environ.get("LITELLM_BIN"):  # noqa: TID251 -- a benchmark is its own outermost caller
        ours = Figures(chat_rate, chat_s - direct_chat_s, rss, start_s)
        compare(ours, litellm_figures(binary, CHAT))
    kept = [
        bar("added p50", (added - direct) * 1e3, 1.5, at_most=True, unit=" ms"),
        bar("embedding requests/s, 16 clients", rate, 1500, at_most=False),
        bar("streamed tokens/s, 16 clients", tokens, 10_000, at_most=False),
        bar("streamed tokens/s, of the bare relay's", tokens / bare_tokens, 0.9, at_most=False),
        bar(
            "chat requests/s with all features, of without",
            full_chat / chat_rate,
            0.85,
            at_most=False,
        ),
        bar(
            "embedding requests/s with all features, of without",
            full_rate / rate,
            0.85,
            at_most=False,
        ),
    ]
    return 0 if all(kept) else 1
