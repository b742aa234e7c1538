"""Agents that send long prompts at once and come back, beside llama-server with its defaults.

    python3 run.py bench make-model
    LLAMA_SERVER_BIN=…/llama-server python3 run.py bench agents

Each agent sends a system prompt and a first message, reads its answer, and continues the
conversation. With `--prompts shared` the system prompt is the same for all agents of a round and
has `--words` words; with `own` the first message has them. A last measurement is a chat that is
being read while a long prompt arrives. Both servers have 4 slots, and are measured in turns.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.chat import MODEL, WORDS, our_stack
from benchmarks.http_load import Connection, Stream, send_alone
from benchmarks.peer import peer
from benchmarks.report import bar, median_ratio, quantile, say, table
from tests.running_stack import free_port
from worker_runtime.machine.processor import read_processor

N_SLOTS = 4
N_CTX = 8192
TURN_WORDS = 120
CHAT_TOKENS = 256


@dataclass(frozen=True)
class Work:
    """What the agents of one round do.

    Args:
        is_shared: the agents share the system prompt of `n_words` words; else the first message of
            each has as many words of its own.
        n_tokens: of each answer.
    """

    is_shared: bool
    n_agents: int
    n_turns: int
    n_words: int
    n_tokens: int

    @property
    def key(self) -> str:
        """Of its texts: no cache has them from other work."""
        sizes = (self.n_agents, self.n_turns, self.n_words, self.n_tokens)
        return "s" * self.is_shared + "-".join(map(str, sizes))

    def __str__(self) -> str:
        prompts = "a shared system prompt" if self.is_shared else "own prompts"
        return (
            f"{self.n_agents} agents, {prompts} of {self.n_words} words, {self.n_turns} turns, "
            f"{self.n_tokens} tokens out"
        )


@dataclass(frozen=True)
class Figure:
    """Seconds: of the whole round; until a first token; between two tokens."""

    wall: float
    first: list[float]
    gaps: list[float]


@dataclass(frozen=True)
class Interactive:
    """Seconds: of a long prompt alone and beside a chat; between the chat's tokens meanwhile."""

    alone: float
    beside: float
    gaps: list[float]


def words(seed: str, n_words: int) -> str:
    """The same text for the same seed, which no other text begins with."""
    return f"{seed} " + " ".join(random.Random(seed).choices(WORDS, k=n_words))


def body(messages: list[dict[str, str]], n_tokens: int) -> bytes:
    return msgspec.json.encode(
        {
            "messages": messages,
            "max_tokens": n_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )


async def ask(port: int, messages: list[dict[str, str]], n_tokens: int) -> Stream:
    """On a connection of its own: llama-server drops some requests on one used before."""
    stream = await send_alone(port, "/v1/chat/completions", body(messages, n_tokens))
    if stream.n_tokens != n_tokens or not stream.event_times_s:
        raise RuntimeError(f"status {stream.status} with {stream.n_tokens} tokens of {n_tokens}")
    return stream


async def agent(port: int, work: Work, seed: str, number: int) -> list[Stream]:
    """The streams of one conversation.

    The history has texts of the answers' length instead of the answers: those of a random model
    become other tokens when they are read again, and the servers' may differ.
    """
    own = f"{seed}.{number}"
    system = words(seed, work.n_words) if work.is_shared else "You are an agent."
    first = words(own, TURN_WORDS if work.is_shared else work.n_words)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": first}]
    streams = []
    for turn in range(work.n_turns):
        streams.append(await ask(port, messages, work.n_tokens))
        messages += [
            {"role": "assistant", "content": words(f"{own}.{turn}.answer", work.n_tokens)},
            {"role": "user", "content": words(f"{own}.{turn}", TURN_WORDS)},
        ]
    return streams


async def round_of(port: int, work: Work, seed: str) -> Figure:
    started = time.perf_counter()
    agents = (agent(port, work, seed, number) for number in range(work.n_agents))
    streams = [stream for own in await asyncio.gather(*agents) for stream in own]
    wall = time.perf_counter() - started
    return Figure(wall, [s.first_token_s for s in streams], [g for s in streams for g in s.gaps_s])


async def interactive(port: int, n_words: int, seed: str) -> Interactive:
    """A chat that is being read while a long prompt arrives, and such a prompt alone."""

    async def prompt(own: str) -> Stream:
        return await ask(port, [{"role": "user", "content": words(own, n_words)}], 4)

    alone = (await prompt(f"{seed}.alone")).first_token_s
    begun = asyncio.Event()
    async with Connection("127.0.0.1", port) as connection, asyncio.TaskGroup() as tasks:
        question = body([{"role": "user", "content": words(seed, 60)}], CHAT_TOKENS)
        chat = tasks.create_task(connection.stream("/v1/chat/completions", question, begun.set))
        await begun.wait()
        beside = await prompt(f"{seed}.beside")
    began, ended = beside.started_s, beside.event_times_s[0]
    pieces = itertools.pairwise(chat.result().event_times_s)
    gaps = [b - a for a, b in pieces if b > began and a < ended]
    # A small model's chat may be over before the prompt has come.
    return Interactive(alone, beside.first_token_s, gaps or [0.0])


def measure_agents(ports: dict[str, int], work: Work, n_rounds: int) -> bool:
    """Measure the servers in turns, each first as often, so that the machine's drift hits both."""
    figures: dict[str, list[Figure]] = {name: [] for name in ports}
    for number in range(n_rounds):
        for name, port in sorted(ports.items(), reverse=bool(number % 2)):
            figures[name].append(asyncio.run(round_of(port, work, f"{work.key}.{number}")))
            say(f"round {number + 1}, {name}: {figures[name][-1].wall:.1f} s")
    say(f"\n{work}; medians of {n_rounds} rounds, seconds")
    rows = {name: [_row(figure) for figure in found] for name, found in figures.items()}
    head = ["server", "wall", "first p50", "first p95", "gap p50", "gap p95", "gap max"]
    table(head, [[name, *_medians(found)] for name, found in rows.items()])
    if len(rows) == 1:
        return True
    ours, theirs = (list(zip(*found, strict=True)) for found in rows.values())
    wall = bar(
        "wall time, theirs / ours",
        median_ratio(theirs[0], ours[0]),
        1.3 if work.is_shared else 1.0,
        at_most=False,
    )
    first = bar(
        "p95 of first token, ours / theirs", median_ratio(ours[2], theirs[2]), 1.0, at_most=True
    )
    gap = bar("p95 of gap, ours / theirs", median_ratio(ours[4], theirs[4]), 2.0, at_most=True)
    return wall and first and gap


def measure_interactive(ports: dict[str, int], n_words: int, n_rounds: int) -> bool:
    figures: dict[str, list[Interactive]] = {name: [] for name in ports}
    for number in range(n_rounds):
        for name, port in sorted(ports.items(), reverse=bool(number % 2)):
            figures[name].append(asyncio.run(interactive(port, n_words, f"chat.{number}")))
    say(f"\na chat beside a prompt of {n_words} words; medians of {n_rounds} rounds, seconds")
    rows = {
        name: [[f.alone, f.beside, quantile(f.gaps, 0.95), max(f.gaps)] for f in found]
        for name, found in figures.items()
    }
    head = ["server", "prompt alone", "prompt beside", "chat's gap p95", "gap max"]
    table(head, [[name, *_medians(found)] for name, found in rows.items()])
    ours = rows["y26hkx"]
    gap_s = statistics.median(row[2] for row in ours)
    gap = bar("p95 of the chat's gap", gap_s, 0.5, at_most=True, unit=" s")
    speed = statistics.median(row[0] / row[1] for row in ours)
    return bar("the prompt's speed beside the chat", speed, 0.7, at_most=False) and gap


def _row(figure: Figure) -> list[float]:
    first = [quantile(figure.first, share) for share in (0.5, 0.95)]
    gaps = [quantile(figure.gaps, share) for share in (0.5, 0.95, 1.0)]
    return [figure.wall, *first, *gaps]


def _medians(rows: Sequence[Sequence[float]]) -> list[str]:
    return [f"{statistics.median(column):.3f}" for column in zip(*rows, strict=True)]


def works(chosen: argparse.Namespace) -> list[Work]:
    return [
        Work(prompts == "shared", n_agents, n_turns, n_words, n_tokens)
        for n_agents in chosen.agents
        for prompts in chosen.prompts
        for n_turns in chosen.turns
        for n_words in chosen.words
        for n_tokens in chosen.tokens
    ]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench agents", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--backend", choices=["llama.cpp", "openvino"], default="llama.cpp")
    parser.add_argument(
        "--prompts", nargs="*", choices=["shared", "own"], default=["shared", "own"]
    )
    parser.add_argument("--agents", type=int, nargs="+", default=[4], help="at once, such as 4 12")
    parser.add_argument("--turns", type=int, nargs="+", default=[2], help="such as 2 6")
    parser.add_argument("--words", type=int, nargs="+", default=[600], help="such as 500 3000")
    parser.add_argument("--tokens", type=int, nargs="+", default=[48], help="such as 32 256")
    parser.add_argument("--chat-words", type=int, default=2000, help="0: no chat is measured")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0, help="0: each server's own choice")
    chosen = parser.parse_args(argv)
    binary = os.environ.get("LLAMA_SERVER_BIN")  # noqa: TID251 -- a benchmark is its own outermost caller
    say(read_processor().name)
    with contextlib.ExitStack() as servers:
        ours = our_stack(chosen.model, chosen.threads, N_SLOTS, N_CTX, MODEL_BACKEND=chosen.backend)
        ports = {"y26hkx": servers.enter_context(ours)}
        if binary:
            arguments = [binary, "-m", str(chosen.model), "--host", "127.0.0.1"]
            arguments += ["-t", str(chosen.threads)] if chosen.threads else []
            port = free_port()
            ports["llama-server"] = servers.enter_context(
                peer([*arguments, "--port", str(port)], port)
            )
        for port in ports.values():
            asyncio.run(ask(port, [{"role": "user", "content": "Hello"}], 4))
        kept = [measure_agents(ports, work, chosen.rounds) for work in works(chosen)]
        if chosen.chat_words:
            kept.append(measure_interactive(ports, chosen.chat_words, chosen.rounds))
    return 0 if all(kept) else 1
