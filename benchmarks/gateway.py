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
import os
import statistics
import time
from typing import NamedTuple

import grpc
import msgspec

from benchmarks.http_load import Connection, flood, one_by_one
from benchmarks.litellm_proxy import Figures, compare, litellm_figures
from benchmarks.null_stack import Full, NullStack, null_stack, with_all_features
from benchmarks.report import bar, say, table
from protos.y26hkx.v1 import chat_pb2, chat_pb2_grpc, embed_pb2, embed_pb2_grpc

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


class Rates(NamedTuple):
    """Requests per second, and streamed tokens: of the gateway, of the bare relay, and of the
    gateway with all features."""

    embedding: float
    bare_embedding: float
    tokens: float
    bare_tokens: float
    chat: float
    full_embedding: float
    full_tokens: float
    full_chat: float


class Found(NamedTuple):
    """
    Args:
        embedding_s: median of one at a time, through the gateway.
        direct_s: the same, straight to the worker.
        chat: what LiteLLM's proxy is compared with.
    """

    rates: Rates
    embedding_s: float
    direct_s: float
    chat: Figures


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


async def one_round(port: int, bare_port: int, full: Full) -> Rates:
    return Rates(
        await flood(port, "/v1/embeddings", EMBEDDING),
        await flood(bare_port, "/v1/embeddings", EMBEDDING),
        await streams(port),
        await streams(bare_port),
        await flood(port, "/v1/chat/completions", CHAT, n_each=50),
        await flood(full.port, "/v1/embeddings", EMBEDDING, key=full.key),
        await streams(full.port, key=full.key),
        await flood(full.port, "/v1/chat/completions", CHAT, n_each=50, key=full.key),
    )


def measure(stack: NullStack) -> Found:
    added_s = asyncio.run(one_by_one(stack.port, "/v1/embeddings", EMBEDDING, n=1000))
    direct_s = asyncio.run(straight(stack.worker_port))
    chat_s = asyncio.run(one_by_one(stack.port, "/v1/chat/completions", CHAT))
    direct_chat_s = asyncio.run(straight_chat(stack.worker_port))
    with with_all_features(stack.env) as full:
        rounds = [
            asyncio.run(one_round(stack.port, stack.bare_port, full)) for _ in range(N_ROUNDS)
        ]
    medians = Rates(*(statistics.median(figures) for figures in zip(*rounds, strict=True)))
    rss_mib = stack.gateway.memory_info().rss / 2**20
    chat = Figures(medians.chat, chat_s - direct_chat_s, rss_mib, stack.start_s)
    return Found(medians, added_s, direct_s, chat)


def report(found: Found) -> bool:
    """Print the figures; whether all bars are kept."""
    rates = found.rates
    table(
        ["", "gateway", "all features", "bare relay", "straight to the worker"],
        [
            [
                "embedding p50 ms",
                f"{found.embedding_s * 1e3:.2f}",
                "",
                "",
                f"{found.direct_s * 1e3:.2f}",
            ],
            [
                "embedding requests/s",
                f"{rates.embedding:.0f}",
                f"{rates.full_embedding:.0f}",
                f"{rates.bare_embedding:.0f}",
                "",
            ],
            [
                "streamed tokens/s",
                f"{rates.tokens:.0f}",
                f"{rates.full_tokens:.0f}",
                f"{rates.bare_tokens:.0f}",
                "",
            ],
            ["chat requests/s", f"{rates.chat:.0f}", f"{rates.full_chat:.0f}", "", ""],
        ],
    )
    say(f"gateway resident memory: {found.chat.rss_mib:.0f} MiB")
    added_ms = (found.embedding_s - found.direct_s) * 1e3
    return all(
        [
            bar("added p50", added_ms, 1.5, at_most=True, unit=" ms"),
            bar("embedding requests/s, 16 clients", rates.embedding, 1500, at_most=False),
            bar("streamed tokens/s, 16 clients", rates.tokens, 10_000, at_most=False),
            bar(
                "streamed tokens/s, of the bare relay's",
                rates.tokens / rates.bare_tokens,
                0.9,
                at_most=False,
            ),
            bar(
                "chat requests/s with all features, of without",
                rates.full_chat / rates.chat,
                0.85,
                at_most=False,
            ),
            bar(
                "embedding requests/s with all features, of without",
                rates.full_embedding / rates.embedding,
                0.85,
                at_most=False,
            ),
        ]
    )


def main(argv: list[str]) -> int:
    argparse.ArgumentParser(prog="run.py bench gateway", description=__doc__).parse_args(argv)
    with null_stack() as stack:
        found = measure(stack)
    kept = report(found)
    if binary := os.environ.get("LITELLM_BIN"):  # noqa: TID251 -- a benchmark is its own outermost caller
        compare(found.chat, litellm_figures(binary, CHAT))
    return 0 if kept else 1
