"""From a server's start to the first answer of a GGUF file, memory and disk, beside llama-server.

    LLAMA_SERVER_BIN=…/llama-server python3 run.py bench first-minutes --venv OTHER/.venv

Both serve the same file, are started the same way, and are asked every 10 ms until they answer. The
file is in the page cache. `--venv` is a default set-up: that of the developer has torch, too.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.idle import proportional_bytes
from benchmarks.peer import wait_for
from benchmarks.report import say, table
from tests.running_stack import GUIDE, ROOT, free_port
from worker_runtime.machine.processor import read_processor

MIB = 2**20
SETTLE_S = 3
WITHIN_S = 120
ASK = {"messages": [{"role": "user", "content": "What are you?"}], "max_tokens": 8}


@dataclass(frozen=True)
class Server:
    """
    Args:
        folder: holds all of its files.
        commands: what a newcomer types from nothing to the first answer.
    """

    name: str
    command: Sequence[str]
    variables: Mapping[str, str]
    folder: Path
    commands: str


@dataclass(frozen=True)
class Figures:
    answer_s: float
    idle_mib: float
    loaded_mib: float


@contextlib.contextmanager
def running(server: Server, port: int) -> Iterator[psutil.Process]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*server.command, "--port", str(port)],
            env={**os.environ, **server.variables},  # noqa: TID251 -- a benchmark is its own outermost caller
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def until_answered(port: int) -> None:
    """Ask until there is an answer.

    Raises:
        RuntimeError: there is none in time.
    """
    deadline = time.monotonic() + WITHIN_S
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WITHIN_S) as http:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if http.post("/v1/chat/completions", json=ASK).status_code == httpx.codes.OK:
                    return
            time.sleep(0.01)
    raise RuntimeError(f"no answer within {WITHIN_S} s")


def memory_mib(process: psutil.Process) -> float:
    """Of a server with its processes."""
    every = [process, *process.children(recursive=True)]
    return sum(map(proportional_bytes, every)) / MIB


def measured(server: Server) -> Figures:
    port = free_port()
    with running(server, port) as process:
        began_s = time.perf_counter()
        until_answered(port)
        answer_s = time.perf_counter() - began_s
        time.sleep(SETTLE_S)
        loaded = memory_mib(process)
    port = free_port()
    with running(server, port) as process:
        wait_for(f"http://127.0.0.1:{port}/health", within_s=WITHIN_S)
        time.sleep(SETTLE_S)
        idle = memory_mib(process)
    return Figures(answer_s, idle, loaded)


def disk_mib(folder: Path) -> tuple[float, float]:
    """What the files of a folder take on disk, and without bytecode; links count once."""
    sizes = {
        (state.st_dev, state.st_ino): (getattr(state, "st_blocks", 0) * 512 or state.st_size, path)
        for path in folder.rglob("*")
        if not path.is_symlink() and path.is_file()
        for state in (path.stat(),)
    }
    total = sum(size for size, _ in sizes.values())
    bytecode = sum(size for size, path in sizes.values() if path.suffix == ".pyc")
    return total / MIB, (total - bytecode) / MIB


def servers(model: Path, venv: Path, models: Path) -> Iterator[Server]:
    scripts = venv / ("Scripts" if sys.platform == "win32" else "bin")
    yield Server(
        "y26hkx",
        [str(scripts / "y26hkx"), "serve"],
        {"MODELS_DIR": str(models), "MODEL_PATH": str(models / model.name)},
        venv,
        "git clone …; python3 run.py serve",
    )
    if binary := os.environ.get("LLAMA_SERVER_BIN"):  # noqa: TID251 -- a benchmark is its own outermost caller
        yield Server(
            "llama-server",
            [binary, "--model", str(model)],
            {},
            Path(binary).parent,
            "git clone …; cmake -B build; cmake --build build; llama-server -m FILE",
        )


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench first-minutes", description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "models/guide" / f"{GUIDE}.gguf")
    parser.add_argument("--venv", type=Path, default=Path(sys.prefix))
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        models.mkdir()
        (models / chosen.model.name).hardlink_to(chosen.model)
        for server in servers(chosen.model, chosen.venv, models):
            found = [measured(server) for _ in range(chosen.rounds)]
            disk, without = disk_mib(server.folder)
            rows.append(
                [
                    server.name,
                    f"{statistics.median(one.answer_s for one in found):.2f}",
                    f"{statistics.median(one.idle_mib for one in found):.0f}",
                    f"{statistics.median(one.loaded_mib for one in found):.0f}",
                    f"{disk:.0f} ({without:.0f} without bytecode)",
                    server.commands,
                ]
            )
    size_mib = chosen.model.stat().st_size / MIB
    say(f"{read_processor().name}, {os.cpu_count()} cores; {chosen.model.name}: {size_mib:.0f} MiB")
    table(
        ["server", "answer after s", "idle MiB", "after it MiB", "on disk MiB", "commands"],
        rows,
    )
    return 0
