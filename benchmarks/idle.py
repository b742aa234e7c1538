"""Memory of the whole stack with nothing loaded, and after a load and an unload."""

import argparse
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.report import bar, table
from tests.running_stack import RunningStack, wait_until

MIB = 2**20
SETTLE_S = 3


def proportional_bytes(process: psutil.Process) -> int:
    """PSS where the system knows it (Linux), else the bytes only this process uses."""
    full = process.memory_full_info()
    return int(getattr(full, "pss", full.uss))


def sizes(stack: RunningStack) -> dict[str, int]:
    return {
        " ".join(p.cmdline()[1:3]) or p.name(): proportional_bytes(p) for p in stack.processes()
    }


def main(argv: list[str]) -> int:
    argparse.ArgumentParser(prog="run.py bench idle", description=__doc__).parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"MODEL_IDLE_TIMEOUT": "10"}
        with RunningStack(Path(folder) / "stack.log", **settings) as stack:
            time.sleep(SETTLE_S)
            before = sizes(stack)
            chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
            stack.http.post("/v1/chat/completions", json=chat).raise_for_status()
            stack.http.post("/v1/embeddings", json={"input": "hi"}).raise_for_status()
            loaded = sizes(stack)
            wait_until((len(stack.processes()) == len(before) for _ in iter(int, 1)), 60, "unload")
            time.sleep(SETTLE_S)
            after = sizes(stack)
    table(
        ["process", "idle MiB", "loaded MiB", "after unload MiB"],
        [
            [name, *(f"{at.get(name, 0) / MIB:.1f}" for at in (before, loaded, after))]
            for name in {**before, **loaded}
        ],
    )
    total = sum(before.values()) / MIB
    kept = bar("idle stack", total, 200 * 1e6 / MIB, at_most=True, unit=" MiB")
    growth = sum(after.values()) / sum(before.values())
    return 0 if bar("after unload / before", growth, 1.05, at_most=True) and kept else 1
