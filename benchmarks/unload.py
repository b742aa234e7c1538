"""How much of what a load took an unload gives back, and whether the stack grows over many.

Anonymous memory is counted, that of all processes: pages of files are the system's to drop, and a
process's share of them changes with whatever else runs.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import psutil

from benchmarks.idle import MIB
from benchmarks.report import bar, table
from tests.running_stack import GUIDE, MINILM, ROOT, RunningStack

WITHIN_S = 2.0
RETURNED = 0.99
GROWTH_MIB = 1.0
# First loads fill tables and pools that stay.
WARM_UP = 3
# The guide's weights as a transformers folder.
IN_TRANSFORMERS = "guide-in-transformers"
MODELS = {"llama.cpp": GUIDE, "transformers": IN_TRANSFORMERS, "encoder": MINILM}


class Cycle(msgspec.Struct, frozen=True):
    """Bytes of all processes, and of those that stay."""

    before: int
    loaded: int
    after: int
    parents: int

    @property
    def returned(self) -> float:
        """Share of what the load took."""
        return (self.loaded - self.after) / (self.loaded - self.before)


def cycle(stack: RunningStack, model: str) -> Cycle:
    """Load, use and unload `model` once, from an unloaded state."""
    _post(stack, "/v1/models/unload", model=model)
    before = _total(stack)
    _post(stack, "/v1/models/load", model=model)
    if model == MINILM:
        _post(stack, "/v1/embeddings", model=model, input="hi")
    else:
        messages = [{"role": "user", "content": "hi"}]
        _post(stack, "/v1/chat/completions", model=model, messages=messages, max_tokens=8)
    loaded = _total(stack)
    _post(stack, "/v1/models/unload", model=model)
    deadline = time.monotonic() + WITHIN_S
    while True:
        done = Cycle(before, loaded, _total(stack), parents(stack))
        if done.returned >= RETURNED or time.monotonic() > deadline:
            return done


def parents(stack: RunningStack) -> int:
    """Resident bytes of the processes that outlive models."""
    return sum(process.memory_info().rss for process in stack.processes())


def anonymous_bytes(process: psutil.Process) -> int:
    """What no file holds."""
    memory = process.memory_info()
    if sys.platform == "linux":
        return int(memory.rss - memory.shared)
    return int(getattr(memory, "private", memory.rss))


def growth_mib(cycles: list[Cycle]) -> float:
    """Of the parents, each cycle, after the first ones."""
    counted = cycles[min(WARM_UP, len(cycles) - 1) :]
    return (counted[-1].parents - counted[0].parents) / MIB / max(1, len(counted) - 1)


def _total(stack: RunningStack) -> int:
    total = 0
    for process in stack.processes():
        try:
            total += anonymous_bytes(process)
        except psutil.NoSuchProcess:
            # It ended while we looked: that is what an unload is.
            continue
    return total


def _post(stack: RunningStack, path: str, **body: object) -> None:
    stack.http.post(path, json=body).raise_for_status()


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench unload", description=__doc__)
    parser.add_argument("--cycles", type=int, default=20)
    n = parser.parse_args(argv).cycles
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        shutil.copytree(ROOT / "models" / "guide" / GUIDE, models / IN_TRANSFORMERS)
        with RunningStack(Path(folder) / "stack.log", MODELS_DIR=str(models)) as stack:
            found = {
                name: [cycle(stack, model) for _ in range(n)] for name, model in MODELS.items()
            }
    table(
        ["backend", "a load took MiB", "left MiB", "worst return", "parents' growth MiB a cycle"],
        [
            [
                name,
                f"{max(c.loaded - c.before for c in cycles) / MIB:.1f}",
                f"{max(c.after - c.before for c in cycles) / MIB:.2f}",
                f"{min(c.returned for c in cycles):.2%}",
                f"{growth_mib(cycles):.3f}",
            ]
            for name, cycles in found.items()
        ],
    )
    kept = [
        bar(f"{name}: {what}", value, limit, at_most=at_most)
        for name, cycles in found.items()
        for what, value, limit, at_most in (
            ("returned", min(c.returned for c in cycles[WARM_UP:] or cycles), RETURNED, False),
            ("growth MiB a cycle", growth_mib(cycles), GROWTH_MIB, True),
        )
    ]
    return 0 if all(kept) else 1
