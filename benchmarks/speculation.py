"""Output tokens/s with guessed tokens (`SPECULATION`) beside without: copied text, and other text.

    python3 run.py bench make-model
    python3 run.py bench speculation

A model of random weights copies nothing by itself, so a regular expression makes it say again a
passage of its prompt. Other text is what it says freely; where that goes round in circles, it is
guessed too, as it would be without a benchmark.
"""

import argparse
import asyncio
import contextlib
import os
import random
import re
import statistics
from pathlib import Path

from benchmarks.chat import MODEL, WORDS, Extra, Requests, load, our_stack
from benchmarks.report import bar, median_ratio, table

PASSAGE = " ".join(
    random.Random(5).choices([f"{word}{i}" for i in range(9) for word in WORDS], k=80)
)
COPY: Extra = {
    "messages": [{"role": "user", "content": f"Say this again: {PASSAGE}"}],
    "regex": re.escape(PASSAGE).replace("\\ ", " "),
}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench speculation", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    ways: dict[str, Extra] = {"copied": COPY, "other": {}}
    found: dict[tuple[str, str], list[float]] = {}
    with contextlib.ExitStack() as stacks:
        ports = {
            on: stacks.enter_context(
                our_stack(arguments.model, os.cpu_count() or 2, 4, SPECULATION=on)
            )
            for on in ("true", "false")
        }
        for number in range(arguments.rounds + 1):
            for name, way in ways.items():
                for on, port in ports.items():
                    figure = asyncio.run(load(port, 1, 1, 1_000_000 * number, Requests(extra=way)))
                    if number:  # the first loads the model
                        found.setdefault((name, on), []).append(figure.tokens_per_s)
    table(
        ["text", "tokens/s guessing", "without"],
        [
            [name, *(f"{statistics.median(found[name, on]):.1f}" for on in ("true", "false"))]
            for name in ways
        ],
    )

    def ratio(name: str) -> float:
        return median_ratio(found[name, "true"], found[name, "false"])

    kept = [
        bar("copied text", ratio("copied"), 1.5, at_most=False),
        bar("other text", ratio("other"), 0.97, at_most=False),
    ]
    return 0 if all(kept) else 1
