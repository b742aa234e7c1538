"""Time to first token of conversations that come back: more agents than slots, in turn.

    python3 run.py bench make-model
    LLAMA_SERVER_BIN=…/llama-server python3 run.py bench returning

All agents have one system prompt, and each has a first message of its own. After their first turns
they come back in turn, then again after the model was unloaded, then after a restart of all
processes, with KV_CACHE_DIR set. A figure of a later turn is compared with the first turn of the
same agent, of which the system prompt was computed for another one already.
"""

import argparse
import asyncio
import os
import random
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import msgspec

from benchmarks.chat import MODEL, WORDS
from benchmarks.http_load import Connection, Stream
from benchmarks.peer import peer
from benchmarks.report import bar, say, table
from tests.running_stack import RunningStack, free_port

N_SLOTS = 4
N_CTX = 8192
N_TOKENS = 4
# Of what was computed of an agent's prompt, as much is to be found again: all but the template's
# last tokens, which the answer replaces.
FOUND = 0.98
BARS = {"later turns": 0.15, "after an unload": 0.20, "after a restart": 0.20}


def words(seed: int, n_words: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=n_words))


@dataclass
class Agent:
    """One conversation, and what its turns took."""

    messages: list[dict[str, str]]
    first: Stream | None = None
    latest: Stream | None = None

    async def turn(self, port: int) -> Stream:
        """Ask again, after the next question."""
        if self.latest is not None:
            question = f"And then? {words(len(self.messages), 5)}"
            self.messages += [
                {"role": "assistant", "content": "An answer."},
                {"role": "user", "content": question},
            ]
        body = {
            "messages": self.messages,
            "max_tokens": N_TOKENS,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        async with Connection("127.0.0.1", port) as connection:
            stream = await connection.stream("/v1/chat/completions", msgspec.json.encode(body))
        if stream.n_tokens != N_TOKENS:
            raise RuntimeError(f"a short answer: {stream.status}, {stream.n_tokens} tokens")
        self.first = self.first or stream
        self.latest = stream
        return stream


@dataclass
class Round:
    """One turn of each agent."""

    name: str
    # First token of this turn over that of the agent's first turn.
    ratios: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    # Tokens found in the cache over the tokens of the agent's prompt before.
    found: list[float] = field(default_factory=list)

    async def run(self, agents: list[Agent], port: int) -> "Round":
        for agent in agents:
            before = agent.latest
            stream = await agent.turn(port)
            assert agent.first is not None
            self.seconds.append(stream.first_token_s)
            self.ratios.append(stream.first_token_s / agent.first.first_token_s)
            self.found.append(stream.n_cached / before.n_prompt if before else 0.0)
        return self

    def row(self, server: str) -> list[str]:
        return [
            server,
            self.name,
            f"{statistics.median(self.seconds):.3f}",
            f"{max(self.seconds):.3f}",
            f"{statistics.median(self.ratios):.1%}",
            f"{min(self.found):.1%}",
        ]


def new_agents(arguments: argparse.Namespace) -> list[Agent]:
    system = {"role": "system", "content": words(0, arguments.system_words)}
    return [
        Agent([system, {"role": "user", "content": f"{n} {words(n, arguments.words)}"}])
        for n in range(1, arguments.agents + 1)
    ]


async def turns(agents: list[Agent], port: int, n_turns: int) -> list[Round]:
    first = await Round("first turns").run(agents, port)
    return [first, *[await Round("later turns").run(agents, port) for _ in range(n_turns - 1)]]


def ours(arguments: argparse.Namespace, agents: list[Agent]) -> list[Round]:
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "MODEL_PATH": str(arguments.model),
            "LLAMA_CTX": str(N_CTX),
            "MAX_CONCURRENT_REQUESTS": str(N_SLOTS),
            "KV_CACHE_DIR": str(Path(folder) / "kept"),
            "LLAMA_KV_TYPE": arguments.kv_type,
        }
        with RunningStack(Path(folder) / "stack.log", **settings) as stack:
            warm(stack.port)
            rounds = asyncio.run(turns(agents, stack.port, arguments.turns))
            show_memory(stack.base_url)
            httpx.post(
                f"{stack.base_url}/v1/models/unload", json={"model": arguments.model.stem}
            ).raise_for_status()
            rounds.append(asyncio.run(Round("after an unload").run(agents, stack.port)))
        with RunningStack(Path(folder) / "again.log", **settings) as stack:
            rounds.append(asyncio.run(Round("after a restart").run(agents, stack.port)))
    return rounds


def theirs(binary: str, arguments: argparse.Namespace, agents: list[Agent]) -> list[Round]:
    port = free_port()
    command = [binary, "-m", str(arguments.model), "-np", str(N_SLOTS), "-c", str(N_CTX * N_SLOTS)]
    command += ["--port", str(port), "--host", "127.0.0.1"]
    if arguments.kv_type != "f16":
        command += ["-ctk", arguments.kv_type, "-ctv", arguments.kv_type]
    with peer(command, port):
        warm(port)
        return asyncio.run(turns(agents, port, arguments.turns))


def warm(port: int) -> None:
    """Load the model and compute something."""
    asyncio.run(Agent([{"role": "user", "content": words(-1, 30)}]).turn(port))


def show_memory(base_url: str) -> None:
    """How near the estimate is to what the process took, with the conversations in memory."""
    for name, model in httpx.get(f"{base_url}/health/detailed").json()["memory"]["models"].items():
        if model.get("peak_bytes"):
            say(f"memory of {name}: {model}")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench returning", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--agents", type=int, default=12)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--system-words", type=int, default=200)
    parser.add_argument("--words", type=int, default=400, help="of each agent's first message")
    parser.add_argument("--only", choices=["y26hkx", "llama-server"])
    parser.add_argument("--kv-type", choices=["f16", "q8_0"], default="f16")
    arguments = parser.parse_args(argv)
    binary = os.environ.get("LLAMA_SERVER_BIN")  # noqa: TID251 -- a benchmark is its own outermost caller
    found = {}
    if arguments.only != "llama-server":
        found["y26hkx"] = ours(arguments, new_agents(arguments))
    if binary and arguments.only != "y26hkx":
        found["llama-server"] = theirs(binary, arguments, new_agents(arguments))
    table(
        ["server", "turns", "first token s", "worst", "of the first turn", "found, at the least"],
        [each.row(server) for server, rounds in found.items() for each in rounds],
    )
    kept = []
    for each in found.get("y26hkx", [])[1:]:
        ratio = statistics.median(each.ratios)
        kept.append(bar(f"{each.name} / first turns", ratio, BARS[each.name], at_most=True))
        kept.append(bar(f"{each.name}: tokens found", min(each.found), FOUND, at_most=False))
    return 0 if all(kept) else 1
