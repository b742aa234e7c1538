"""Time to first token of a second turn over a 1,500-token history, against the first turn."""

import argparse
import asyncio
import statistics
import tempfile
from pathlib import Path

import msgspec

from benchmarks.chat import MODEL
from benchmarks.http_load import Connection
from benchmarks.report import bar, table
from tests.running_stack import RunningStack


def turn(messages: list[dict[str, str]]) -> bytes:
    return msgspec.json.encode(
        {
            "messages": messages,
            "max_tokens": 4,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )


async def conversation(port: int, number: int) -> tuple[float, float]:
    """First-token times in seconds of the first and of the second turn."""
    question = f"{number} " + " ".join(f"word{i % 97}" for i in range(480))
    history = [{"role": "user", "content": question}]
    async with Connection("127.0.0.1", port) as connection:
        first = await connection.stream("/v1/chat/completions", turn(history))
        history += [
            {"role": "assistant", "content": "An answer."},
            {"role": "user", "content": "And then?"},
        ]
        second = await connection.stream("/v1/chat/completions", turn(history))
    return first.first_token_s, second.first_token_s


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench prefix", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"MODEL_PATH": str(arguments.model), "MAX_INPUT_TOKENS": "4096"}
        with RunningStack(Path(folder) / "stack.log", **settings) as stack:
            asyncio.run(conversation(stack.port, 0))
            pairs = [asyncio.run(conversation(stack.port, number)) for number in range(1, 4)]
    table(
        ["first turn s", "second turn s", "ratio"],
        [[f"{a:.3f}", f"{b:.3f}", f"{b / a:.1%}"] for a, b in pairs],
    )
    ratio = statistics.median(b / a for a, b in pairs)
    return 0 if bar("second turn / first turn", ratio, 0.15, at_most=True) else 1
