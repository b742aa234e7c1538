"""What a batch costs the person who asks meanwhile: one short text, with and without it.

The stack runs with its built-in embedding model. Turns of both kinds alternate: a batch of 10,000
embeddings is begun, and cancelled again. Between two questions of the person the batch runs.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import msgspec
import openai

from benchmarks.report import bar, say, table
from tests.running_stack import RunningStack

N_LINES = 10_000
N_TURNS = 3
N_QUESTIONS = 8
# Longer than the quiet that a batch waits for, so that it runs whenever the person asks.
PAUSE_S = 1.6
MOST_GROWTH = 1.3


def requests() -> bytes:
    return b"".join(
        msgspec.json.encode(
            {
                "custom_id": str(n),
                "method": "POST",
                "url": "/v1/embeddings",
                "body": {"input": f"The text with the number {n} is about cats and kittens."},
            }
        )
        + b"\n"
        for n in range(N_LINES)
    )


def questions(client: openai.OpenAI, turn: str) -> list[float]:
    """Seconds of each of some short embedding requests, with pauses."""
    took = []
    for n in range(N_QUESTIONS):
        time.sleep(PAUSE_S)
        began_s = time.perf_counter()
        client.embeddings.create(model="", input=f"{turn}: what is number {n}?")
        took.append(time.perf_counter() - began_s)
    return took


def main(argv: list[str]) -> int:
    argparse.ArgumentParser(prog="run.py bench batches", description=__doc__).parse_args(argv)
    alone: list[float] = []
    beside: list[float] = []
    n_done, ran_s = 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        kept = str(Path(folder) / "batches")
        with RunningStack(Path(folder) / "log", BATCHES_PATH=kept) as stack:
            client = stack.openai()
            questions(client, "warm up")
            for turn in range(N_TURNS):
                alone += questions(client, f"alone {turn}")
                sent = client.files.create(file=("in.jsonl", requests()), purpose="batch")
                batch = client.batches.create(
                    input_file_id=sent.id, endpoint="/v1/embeddings", completion_window="24h"
                )
                began_s = time.perf_counter()
                beside += questions(client, f"beside {turn}")
                batch = client.batches.retrieve(batch.id)
                ran_s += time.perf_counter() - began_s
                if batch.request_counts is not None:
                    n_done += batch.request_counts.completed
                client.batches.cancel(batch.id)
    medians = [statistics.median(took) for took in (alone, beside)]
    table(
        ["one short text", "alone", "beside a batch"],
        [
            ["p50 ms", *(f"{median * 1e3:.1f}" for median in medians)],
            ["largest ms", *(f"{max(took) * 1e3:.1f}" for took in (alone, beside))],
        ],
    )
    say(f"the batch answered {n_done / ran_s:.0f} requests/s meanwhile")
    return 0 if bar("p50, times alone", medians[1] / medians[0], MOST_GROWTH, at_most=True) else 1
