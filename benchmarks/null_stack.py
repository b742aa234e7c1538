"""A gateway in front of a null worker, and what is measured beside it, each on its core."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.peer import pin, wait_for
from gateway.keys.administration import add_key
from gateway.keys.record import Limits, Rights
from tests.running_stack import KEPT_VARIABLES, free_port


class NullStack(NamedTuple):
    """What runs, and where.

    Args:
        env: of the gateway, for another one like it.
        start_s: seconds that the gateway took to start.
    """

    port: int
    bare_port: int
    worker_port: int
    gateway: psutil.Process
    env: dict[str, str]
    start_s: float


class Full(NamedTuple):
    """A gateway with all features, and a key for it."""

    port: int
    key: str


@contextlib.contextmanager
def null_stack() -> Iterator[NullStack]:
    """A gateway and a bare relay on one core, in front of a null worker on the other."""
    worker_port, port, bare_port = free_port(), free_port(), free_port()
    env = {k: v for k, v in psutil.Process().environ().items() if k in KEPT_VARIABLES}
    env |= {
        "GATEWAY_PORT": str(port),
        "CHAT_WORKERS": f"127.0.0.1:{worker_port}",
        "EMBED_WORKERS": f"127.0.0.1:{worker_port}",
    }
    worker = subprocess.Popen([sys.executable, "-m", "benchmarks.null_worker", str(worker_port)])
    began_s = time.monotonic()
    gateway = subprocess.Popen([sys.executable, "-m", "gateway"], env=env)
    bare = None
    try:
        pin(gateway.pid, 0)
        # Without a worker of its own yet, so that nothing else starts on this core.
        wait_for(f"http://127.0.0.1:{port}/health/live", within_s=60)
        start_s = time.monotonic() - began_s
        bare = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare_relay", str(bare_port), str(worker_port)]
        )
        pin(bare.pid, 0)
        # The load too, or it takes its time from the gateway's core.
        for pid in (worker.pid, os.getpid()):
            pin(pid, 1)
        for each in (port, bare_port):
            wait_for(f"http://127.0.0.1:{each}/health/ready", within_s=60)
        yield NullStack(port, bare_port, worker_port, psutil.Process(gateway.pid), env, start_s)
    finally:
        for process in filter(None, (gateway, bare, worker)):
            process.terminate()
            process.wait()


@contextlib.contextmanager
def with_all_features(env: dict[str, str]) -> Iterator[Full]:
    """A gateway with keys, limits, kept usage and logs as JSON."""
    most = Limits(
        requests_per_minute=10**9, tokens_per_minute=10**12, tokens_per_day=10**12,
        tokens_per_month=10**12,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path, port = Path(folder) / "keys", free_port()
        key = add_key(path, Rights(chat=most, embeddings=most, concurrent_requests=10_000)).text
        own = {"GATEWAY_PORT": str(port), "API_KEYS_FILE": str(path), "LOG_FORMAT": "json"}
        # The null worker takes as many as come.
        own["MAX_CONCURRENT_REQUESTS"] = "64"
        process = subprocess.Popen([sys.executable, "-m", "gateway"], env=env | own)
        try:
            pin(process.pid, 0)
            wait_for(f"http://127.0.0.1:{port}/health/ready", within_s=60)
            yield Full(port, key)
        finally:
            process.terminate()
            process.wait()
