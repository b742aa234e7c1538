"""Output tokens/s of answers held to a JSON schema beside free ones, from the same stack in turns.

    python3 run.py bench make-model
    python3 run.py bench constrained

The vocabulary has 152k tokens, so a mask has 152k bits.
"""

import argparse
import asyncio
import os
import statistics
from pathlib import Path

from benchmarks.chat import MODEL, Extra, Requests, load, our_stack
from benchmarks.report import bar, median_ratio, table

# Longer than an answer, so that all are of the same length.
SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string", "minLength": 2000}},
    "required": ["text"],
    "additionalProperties": False,
}
FORMAT: Extra = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
    }
}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench constrained", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args(argv)
    ways: dict[str, Extra] = {"free": {}, "held to a schema": FORMAT}
    found: dict[str, list[float]] = {name: [] for name in ways}
    # What is guessed differs between the texts.
    with our_stack(
        arguments.model, os.cpu_count() or 2, arguments.clients, SPECULATION="false"
    ) as port:
        for way in ways.values():
            asyncio.run(load(port, 1, 1, 1, Requests(extra=way)))
        for number in range(1, arguments.rounds + 1):
            for half, (name, way) in enumerate(ways.items()):
                # Prompts of its own for each, else the second would find those of the first.
                seed = 1_000_000 * number + 100_000 * half
                figure = asyncio.run(load(port, arguments.clients, 1, seed, Requests(extra=way)))
                found[name].append(figure.tokens_per_s)
    table(
        ["answers", "tokens/s"],
        [[name, f"{statistics.median(figures):.1f}"] for name, figures in found.items()],
    )
    ratio = median_ratio(found["held to a schema"], found["free"])
    return 0 if bar("held / free", ratio, 0.95, at_most=False) else 1
