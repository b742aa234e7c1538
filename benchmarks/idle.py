"""Memory of the whole stack with nothing loaded, and after a load and an unload."""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from benchmarks.report import bar, table
from tests.running_stack import RunningStack, wait_until

MIB = 2**20
SETTLE_S = 3
CHAT_ENGINE = "chat_worker.engine_process"


def proportional_bytes(process: psutil.Process) -> int:
    """PSS where the system knows it (Linux), else the bytes only this process uses."""
    full = process.memory_full_info()
    return int(getattr(full, "pss", full.uss))


def sizes(stack: RunningStack) -> Counter[str]:
    found: Counter[str] = Counter()
    for process in stack.processes():
        name = " ".join(process.cmdline()[1:3]) or process.name()
        found[name] += proportional_bytes(process)
    return found


def main(argv: list[str]) -> int:
    argparse.ArgumentParser(prog="run.py bench idle", description=__doc__).parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        # With the process that waits for a model, as in a default set-up.
        settings = {"MODEL_IDLE_TIMEOUT": "10", "STANDBY_ENGINE": "1"}
        with RunningStack(Path(folder) / "stack.log", **settings) as stack:
            wait_until((bool(stack.find(CHAT_ENGINE)) for _ in iter(int, 1)), 60, "a standby")
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
            [name, *(f"{at[name] / MIB:.1f}" for at in (before, loaded, after))]
            for name in before | loaded
        ],
    )
    total = sum(before.values()) / MIB
    kept = bar("idle stack", total, 200 * 1e6 / MIB, at_most=True, unit=" MiB")
    growth = sum(after.values()) / sum(before.values())
    return 0 if bar("after unload / before", growth, 1.05, at_most=True) and kept else 1
