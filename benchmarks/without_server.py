"""Speed of an engine that is called as a library: a task of prompts as token ids, and its figures.

Programs of other interpreters use it too, so it imports the standard library only.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

N_TOKENS = 64
# Computes an answer of so many tokens to each of the prompts.
Answer = Callable[[list[list[int]], int], None]


def run(load: Callable[[dict[str, Any]], Answer]) -> None:
    """Read a task as JSON from standard input and print its `engine_figures.Figures`.

    Args:
        load: an engine for the task.
    """
    task = json.load(sys.stdin)
    began = time.perf_counter()
    answer = load(task)
    answer([task["warm_up"]], 1)
    load_s = time.perf_counter() - began

    def seconds(prompts: list[list[int]], n_tokens: int) -> float:
        began = time.perf_counter()
        answer(prompts, n_tokens)
        return time.perf_counter() - began

    figures = {
        "load_s": load_s,
        "prompts": {
            n_words: statistics.median(len(ids) / seconds([ids], 1) for ids in rounds)
            for n_words, rounds in task["prompts"].items()
        },
        "answers": {
            n_clients: statistics.median(
                len(prompts) * N_TOKENS / seconds(prompts, N_TOKENS) for prompts in rounds
            )
            for n_clients, rounds in task["answers"].items()
        },
        "memory_mib": most_resident_mib(),
    }
    sys.stdout.write(json.dumps(figures))


def most_resident_mib() -> float:
    """The most that this process had in memory; 0 on Windows, where only other libraries tell."""
    if sys.platform == "win32":
        return 0.0
    import resource

    # Of KiB, on macOS of bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
