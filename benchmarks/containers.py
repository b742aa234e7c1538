"""Size, build, start and idle memory of the images, with the container engine of this machine.

    python3 run.py bench containers [--rebuild] [--starts 3]

"start" is from `docker run` until the health check passes, the median; "idle" is what
`docker stats` counts 10 s later. "above base" is what an image adds to the base of all.
"""

import argparse
import contextlib
import io
import os
import statistics
import time
from dataclasses import dataclass

from benchmarks.report import bar, say, table
from cli.probe import main as probe
from tests.containers.composed import IMAGES, docker
from tests.running_stack import free_port, wait_until
from worker_runtime.machine.processor import read_processor

BASE = "python:3.12-slim"
MB = 1e6
SETTLE_S, START_WITHIN_S = 10, 120
OF_WORKERS = ("WORKER_TOKEN=benchmark", "WORKER_TRUSTED_NETWORK=1")


@dataclass(frozen=True)
class Runs:
    """How an image is run alone.

    Args:
        asked: arguments of the health check.
        port: where it listens.
        settings: what it needs, by variable.
        most_mb: the most that it may add to its base, and take with it.
    """

    asked: tuple[str, ...]
    port: int
    settings: tuple[str, ...] = ()
    most_mb: int | None = None


RUNS = {
    "y26hkx-gateway": Runs(
        ("gateway",), 8001, ("API_KEYS=key", "CHAT_WORKERS=", "EMBED_WORKERS=", *OF_WORKERS), 200
    ),
    "y26hkx-embed-worker": Runs(("worker",), 50052, OF_WORKERS, 700),
    "y26hkx-chat-worker": Runs(("worker",), 50051, OF_WORKERS, 350),
    "y26hkx": Runs(("gateway", "--path", "/health/ready"), 8001),
}


def build_s(image: str, *options: str) -> float:
    began = time.monotonic()
    docker("build", "--quiet", *options, "--file", IMAGES[image], "--tag", image, ".")
    return time.monotonic() - began


def size_mb(image: str) -> float:
    return int(docker("image", "inspect", "--format", "{{.Size}}", image)) / MB


def start(image: str, *, settle_s: float) -> tuple[float, str]:
    """Seconds until it is healthy, and the memory that it takes when it has settled."""
    runs, port = RUNS[image], free_port()
    settings = [word for setting in runs.settings for word in ("--env", setting)]
    began = time.monotonic()
    container = docker(
        *("run", "--detach", "--read-only", "--tmpfs", "/tmp"),
        *("--publish", f"127.0.0.1:{port}:{runs.port}", *settings, image),
    ).strip()
    try:
        ask = [*runs.asked, "--port", str(port)]
        # It says each time why the service is not healthy yet.
        with contextlib.redirect_stderr(io.StringIO()):
            wait_until((probe(ask) == 0 for _ in iter(int, 1)), START_WITHIN_S, image)
        took = time.monotonic() - began
        time.sleep(settle_s)
        used = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", container)
    finally:
        docker("rm", "--force", "--volumes", container)
    return took, used.partition("/")[0].strip()


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench containers", description=__doc__)
    parser.add_argument(
        "--rebuild", action="store_true", help="also build each image without layers of before"
    )
    parser.add_argument("--starts", type=int, default=3)
    chosen = parser.parse_args(argv)
    say(f"{read_processor().name}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    base_mb, rows, kept = size_mb(BASE), [], []
    for image, runs in RUNS.items():
        fresh = f"{build_s(image, '--no-cache'):.0f}" if chosen.rebuild else "–"
        cached = build_s(image)
        starts = [start(image, settle_s=0)[0] for _ in range(chosen.starts - 1)]
        last, idle = start(image, settle_s=SETTLE_S)
        added = size_mb(image) - base_mb
        took = statistics.median([*starts, last])
        rows.append([image, f"{added + base_mb:.0f}", f"{added:.0f}", fresh, f"{cached:.1f}"])
        rows[-1] += [f"{took:.1f}", idle]
        kept.append((image, added, runs.most_mb))
    head = ["image", "MB", "above base", "rebuild s", "unchanged s", "start s", "idle"]
    table(head, rows)
    say(f"base: {BASE}, {base_mb:.0f} MB; load {os.getloadavg()[0]:.1f}")
    bars = [
        bar(f"{image} above base", added, most, at_most=True, unit=" MB")
        for image, added, most in kept
        if most is not None
    ]
    return 0 if all(bars) else 1
